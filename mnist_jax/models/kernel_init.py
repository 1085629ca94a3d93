"""How kernels are initialised."""

import flax.linen as nn
import jax

# He et al. 2015, arXiv:1502.01852. Linen traces an initialiser for each layer, whenever
# it traces a model. Inside `jit` it is traced once for each shape.
kernel_init = jax.jit(nn.initializers.he_normal(), static_argnums=(1, 2))
