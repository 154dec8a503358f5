"""The embedded demonstration: a small multilingual corpus from grammars, and the whole road walked on it."""
