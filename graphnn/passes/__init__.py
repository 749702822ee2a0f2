"""Passes: Graph -> Graph, one a file; `pipeline.DEFAULT` is their order. How to add one: docs/add_a_pass.md."""
