"""Gradients of graphs, themselves graphs; the training step; checks of gradients."""

from graphnn.autodiff.check import check_gradients
from graphnn.autodiff.gradients import gradients, training_graph
