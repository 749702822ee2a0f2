"""graphnn beside PyTorch: the same numbers in, results and all gradients compared. Run by `make parity`."""
