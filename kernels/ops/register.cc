#include "kernels/ops/register.h"

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

void RegisterCpuKernels() {
  internal::RegisterCpuAdamW();
  internal::RegisterCpuBias();
  internal::RegisterCpuColumns();
  internal::RegisterCpuConvNorm();
  internal::RegisterCpuDropout();
  internal::RegisterCpuElementwise();
  internal::RegisterCpuEmbedding();
  internal::RegisterCpuFixedPoint();
  internal::RegisterCpuGeglu();
  internal::RegisterCpuGelu();
  internal::RegisterCpuGradientNorm();
  internal::RegisterCpuL2Norm();
  internal::RegisterCpuLayerNorm();
  internal::RegisterCpuLinear();
  internal::RegisterCpuLinearCrossEntropy();
  internal::RegisterCpuLinearGelu();
  internal::RegisterCpuMeanPool();
  internal::RegisterCpuPairFeatures();
  internal::RegisterCpuRelu();
  internal::RegisterCpuRmsNorm();
  internal::RegisterCpuRotary();
  internal::RegisterCpuShortConv();
  internal::RegisterCpuSigmoid();
  internal::RegisterCpuSilu();
  internal::RegisterCpuSinusoids();
  internal::RegisterCpuSum();
  internal::RegisterCpuSwiglu();
}

void RegisterReferenceKernels() {
  internal::RegisterReferenceAdamW();
  internal::RegisterReferenceBias();
  internal::RegisterReferenceColumns();
  internal::RegisterReferenceConvNorm();
  internal::RegisterReferenceDropout();
  internal::RegisterReferenceElementwise();
  internal::RegisterReferenceEmbedding();
  internal::RegisterReferenceFixedPoint();
  internal::RegisterReferenceGeglu();
  internal::RegisterReferenceGelu();
  internal::RegisterReferenceGradientNorm();
  internal::RegisterReferenceL2Norm();
  internal::RegisterReferenceLayerNorm();
  internal::RegisterReferenceLinear();
  internal::RegisterReferenceLinearCrossEntropy();
  internal::RegisterReferenceLinearGelu();
  internal::RegisterReferenceMeanPool();
  internal::RegisterReferencePairFeatures();
  internal::RegisterReferenceRelu();
  internal::RegisterReferenceRmsNorm();
  internal::RegisterReferenceRotary();
  internal::RegisterReferenceShortConv();
  internal::RegisterReferenceSigmoid();
  internal::RegisterReferenceSilu();
  internal::RegisterReferenceSinusoids();
  internal::RegisterReferenceSum();
  internal::RegisterReferenceSwiglu();
}

}  // namespace weft::kernels
