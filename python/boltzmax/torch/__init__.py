"""x."""
from boltzmax.torch.functions import log_softmax, logsumexp, softmax
from boltzmax.torch.sparse import entmax, entmax15, sparsemax
from boltzmax.torch.linear import linear_cross_entropy
from boltzmax.torch.losses import cross_entropy
