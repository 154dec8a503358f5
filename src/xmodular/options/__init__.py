"""The options of every verb: one frozen dataclass each, for Python, the command line and YAML files alike.

A field's ``help`` is the help text of its flag and of its keyword. `build` makes an options object from loose values
(keywords, flags or a YAML file): it converts their types and names mistakes. Nothing here imports torch.
"""

from xmodular.options.building import KINDS, as_record, build, kind_of
from xmodular.options.declaring import (
    NEUTRAL,
    PRECISIONS,
    Fallback,
    Options,
    Place,
    RunPrecision,
    Schedule,
    WeightPrecision,
)
from xmodular.options.demo import DemoOptions
from xmodular.options.donors import DonorsOptions
from xmodular.options.embed import EmbedOptions
from xmodular.options.evaluate import EvaluateOptions
from xmodular.options.export import ExportOptions
from xmodular.options.extend import ExtendOptions
from xmodular.options.finetune import FinetuneOptions
from xmodular.options.keeping import (
    ConvertOptions,
    DiffOptions,
    ModelsOptions,
    PackInstallOptions,
    PackListOptions,
    PackRemoveOptions,
    PackSaveOptions,
    PackVerifyOptions,
    RecipesOptions,
    TrimOptions,
    UpcycleOptions,
)
from xmodular.options.predict import FillMaskOptions, PredictOptions, RowsOptions
from xmodular.options.pretrain import LanguageModelOptions, PretrainOptions, TrainingOptions
from xmodular.options.serve import ServeOptions
from xmodular.options.yaml_file import read_options_file

# In the order of the help.
VERBS: tuple[type[Options], ...] = (
    PretrainOptions,
    DonorsOptions,
    ExtendOptions,
    FinetuneOptions,
    EvaluateOptions,
    PredictOptions,
    EmbedOptions,
    ServeOptions,
    FillMaskOptions,
    ExportOptions,
    PackSaveOptions,
    PackInstallOptions,
    PackVerifyOptions,
    PackListOptions,
    PackRemoveOptions,
    DiffOptions,
    ConvertOptions,
    UpcycleOptions,
    TrimOptions,
    RecipesOptions,
    ModelsOptions,
    DemoOptions,
)
