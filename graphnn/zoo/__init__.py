"""Whole networks, written with what graphnn shows to everyone, each with a `fit` of its own."""

from graphnn.zoo.bernoulli_vae import BernoulliVAE
from graphnn.zoo.network import Network
from graphnn.zoo.rbm import RBM
from graphnn.zoo.wgan_gp import WGAN_GP
from graphnn.zoo.word2vec import Vocabulary, Word2Vec, WordVectors
