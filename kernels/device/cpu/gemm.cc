#include "kernels/device/cpu/gemm.h"

#include <dnnl.h>
#include <omp.h>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"

namespace weft::kernels {
namespace {

// The library would split a product over OpenMP threads of its own; the setting is one per thread.
void HoldLibraryToThisThread() {
  thread_local bool held = false;
  if (held) return;
  omp_set_num_threads(1);
  held = true;
}

}  // namespace

void Gemm(Transpose transpose_a, Transpose transpose_b, int64_t m, int64_t n, int64_t k,
          float alpha, const float* a, int64_t lda, const float* b, int64_t ldb, float beta,
          float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  if (k == 0) {  // the library refuses empty sums
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) c[i * ldc + j] = beta == 0 ? 0 : beta * c[i * ldc + j];
    }
    return;
  }
  HoldLibraryToThisThread();
  const dnnl_status_t status = dnnl_sgemm(transpose_a == Transpose::kYes ? 'T' : 'N',
                                          transpose_b == Transpose::kYes ? 'T' : 'N', m, n, k,
                                          alpha, a, lda, b, ldb, beta, c, ldc);
  WEFT_CHECK_MSG(status == dnnl_success,
                 absl::StrCat("dnnl_sgemm(", m, ", ", n, ", ", k, ") gives ", status));
}

}  // namespace weft::kernels
