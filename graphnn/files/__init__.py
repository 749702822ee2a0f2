"""Model files: graphs, arrays and metadata to bytes and back, safe to open whoever made them."""

from graphnn.files.model_file import Header, ModelFile, TensorEntry, load_file, read_header, save_file, verify_file
