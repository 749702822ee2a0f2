"""Word2Vec: word vectors by skip-gram and CBOW, with negative sampling, NCE and hierarchical softmax."""

from graphnn.zoo.word2vec.model import Word2Vec
from graphnn.zoo.word2vec.vectors import WordVectors
from graphnn.zoo.word2vec.vocabulary import Vocabulary

__all__ = ["Vocabulary", "Word2Vec", "WordVectors"]
