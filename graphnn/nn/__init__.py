"""What networks are built with: layers, activations, losses, optimisers."""

from graphnn.nn import utils as utils
from graphnn.nn.activations import (
    ELU,
    GELU,
    SELU,
    Affine,
    Exponential,
    HardSigmoid,
    HardSwish,
    Identity,
    LeakyReLU,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    SoftPlus,
    Tanh,
)
from graphnn.nn.bundle import Bundle
from graphnn.nn.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LearningRateLogger,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from graphnn.nn.evolution import Rewire, rewired, rewiring
from graphnn.nn.history import History
from graphnn.nn.initialisers import (
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    Normal,
    Ones,
    Orthogonal,
    TruncatedNormal,
    Zeros,
)
from graphnn.nn.layer import Layer
from graphnn.nn.layers import Conv2D, Flatten, FullyConnected, Pool2D
from graphnn.nn.layers.attention import DotProductAttention
from graphnn.nn.layers.batch_norm import BatchNorm1D, BatchNorm2D
from graphnn.nn.layers.conv1d import Conv1D
from graphnn.nn.layers.deconv import Deconv2D
from graphnn.nn.layers.dropout import Dropout
from graphnn.nn.layers.embedding import Embedding
from graphnn.nn.layers.merge import Add, Concatenate, Multiply
from graphnn.nn.layers.norm import GroupNorm, LayerNorm1D, LayerNorm2D
from graphnn.nn.layers.over_time import Cell, Recurrent
from graphnn.nn.layers.rbm import RBM
from graphnn.nn.layers.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from graphnn.nn.layers.shape import GlobalPool, Reshape, UpSampling2D
from graphnn.nn.layers.sparse_evolution import SparseEvolution
from graphnn.nn.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    KLDivergence,
    Loss,
    MeanAbsoluteError,
    NCELoss,
    SquaredError,
    VAELoss,
    WGAN_GPLoss,
)
from graphnn.nn.metrics import AUC, F1, R2, Accuracy, BinaryAccuracy, Metric, Perplexity, Precision, Recall, TopKAccuracy
from graphnn.nn.modules import (
    Bidirectional,
    BidirectionalLSTM,
    MultiHeadedAttentionModule,
    SkipConnectionConvModule,
    SkipConnectionIdentityModule,
    TransformerEncoderBlock,
    WavenetResidualModule,
)
from graphnn.nn.optimisers import SGD, AdaGrad, Adam, AdamW, Optimizer, RMSProp
from graphnn.nn.schedulers import (
    ConstantScheduler,
    CosineScheduler,
    ExponentialScheduler,
    KingScheduler,
    NoamScheduler,
    OneCycleScheduler,
    PlateauRule,
    ReduceOnPlateau,
    Scheduler,
    StepScheduler,
    WarmUpScheduler,
)
