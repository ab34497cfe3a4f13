"""One smoke-scale run of the whole method, which the files of this folder share: what must hold between its stages, and by hand."""
