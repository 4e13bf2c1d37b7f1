#include "kernels/ops/adamw/adamw_table.h"
#include "kernels/ops/bias/bias_table.h"
#include "kernels/ops/columns/columns_table.h"
#include "kernels/ops/conv_norm/conv_norm_table.h"
#include "kernels/ops/dropout/dropout_table.h"
#include "kernels/ops/elementwise/elementwise_table.h"
#include "kernels/ops/embedding/embedding_table.h"
#include "kernels/ops/fixed_point/fixed_point_table.h"
#include "kernels/ops/geglu/geglu_table.h"
#include "kernels/ops/gelu/gelu_table.h"
#include "kernels/ops/gradient_norm/gradient_norm_table.h"
#include "kernels/ops/l2_norm/l2_norm_table.h"
#include "kernels/ops/layer_norm/layer_norm_table.h"
#include "kernels/ops/linear/linear_table.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy_table.h"
#include "kernels/ops/linear_gelu/linear_gelu_table.h"
#include "kernels/ops/mean_pool/mean_pool_table.h"
#include "kernels/ops/pair_features/pair_features_table.h"
#include "kernels/ops/register.h"
#include "kernels/ops/relu/relu_table.h"
#include "kernels/ops/rms_norm/rms_norm_table.h"
#include "kernels/ops/rotary/rotary_table.h"
#include "kernels/ops/short_conv/short_conv_table.h"
#include "kernels/ops/sigmoid/sigmoid_table.h"
#include "kernels/ops/silu/silu_table.h"
#include "kernels/ops/sinusoids/sinusoids_table.h"
#include "kernels/ops/sum/sum_table.h"
#include "kernels/ops/swiglu/swiglu_table.h"

namespace weft::kernels {

void RegisterCudaKernels() {
  internal::RegisterCudaAdamW();
  internal::RegisterCudaBias();
  internal::RegisterCudaColumns();
  internal::RegisterCudaConvNorm();
  internal::RegisterCudaDropout();
  internal::RegisterCudaElementwise();
  internal::RegisterCudaEmbedding();
  internal::RegisterCudaFixedPoint();
  internal::RegisterCudaGeglu();
  internal::RegisterCudaGelu();
  internal::RegisterCudaGradientNorm();
  internal::RegisterCudaL2Norm();
  internal::RegisterCudaLayerNorm();
  internal::RegisterCudaLinear();
  internal::RegisterCudaLinearCrossEntropy();
  internal::RegisterCudaLinearGelu();
  internal::RegisterCudaMeanPool();
  internal::RegisterCudaPairFeatures();
  internal::RegisterCudaRelu();
  internal::RegisterCudaRmsNorm();
  internal::RegisterCudaRotary();
  internal::RegisterCudaShortConv();
  internal::RegisterCudaSigmoid();
  internal::RegisterCudaSilu();
  internal::RegisterCudaSinusoids();
  internal::RegisterCudaSum();
  internal::RegisterCudaSwiglu();
}

}  // namespace weft::kernels
