"""The embedded demo: a small multilingual corpus from grammars, and all steps of the library on it."""
