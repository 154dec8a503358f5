"""Fine-tuned models over HTTP: many requests, in any languages, share a batch."""

from xmodular.serving.serving import serve

__all__ = ["serve"]
