#include "kernels/device/cuda/gemm.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/device/cuda/cuda_status.h"

namespace weft::kernels {
namespace {

// What NVIDIA recommends for Hopper.
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

cudaDataType_t LibraryType(DType dtype) { return dtype == DType::kBf16 ? CUDA_R_16BF : CUDA_R_32F; }

// The largest power of two up to 256 that divides the addresses of all matrices of a batch.
uint32_t AlignmentOf(const void* address, int64_t step_bytes) {
  const auto value =
      reinterpret_cast<uintptr_t>(address) | static_cast<uintptr_t>(step_bytes) | 256;
  return static_cast<uint32_t>(value & (~value + 1));
}

// One cuBLASLt object that is initialised in place and owns nothing.
struct Descriptors {
  cublasLtMatmulDescOpaque_t product = {};
  cublasLtMatrixLayoutOpaque_t a = {}, b = {}, d = {};
  cublasLtMatmulPreferenceOpaque_t preference = {};
};

// The first error of a row of calls.
class Calls {
 public:
  void operator()(cublasStatus_t status) {
    if (status_ == CUBLAS_STATUS_SUCCESS) status_ = status;
  }
  [[nodiscard]] cublasStatus_t status() const { return status_; }

 private:
  cublasStatus_t status_ = CUBLAS_STATUS_SUCCESS;
};

void DescribeBatch(int32_t batch, int64_t step, cublasLtMatrixLayoutOpaque_t& layout,
                   Calls& calls) {
  calls(cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch,
                                         sizeof(batch)));
  calls(cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                         &step, sizeof(step)));
}

void DescribeGelu(const CudaGemm& gemm, cublasLtMatmulDescOpaque_t& product, Calls& calls) {
  const bool biased = gemm.bias != nullptr;
  const cublasLtEpilogue_t epilogue =
      gemm.epilogue == CudaEpilogue::kGelu
          ? (biased ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU)
      : gemm.epilogue == CudaEpilogue::kKeepGelu
          ? (biased ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX)
          : CUBLASLT_EPILOGUE_DGELU;
  const auto set = [&](cublasLtMatmulDescAttributes_t name, const auto& value) {
    calls(cublasLtMatmulDescSetAttribute(&product, name, &value, sizeof(value)));
  };
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  if (gemm.epilogue == CudaEpilogue::kGelu) return;
  set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, gemm.aux);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, gemm.d_stride);
}

const void* Addend(const CudaGemm& gemm) { return gemm.c != nullptr ? gemm.c : gemm.d; }

// The library's matrices lie by columns, so it computes transpose(d) = transpose(b) transpose(a),
// where a row-major matrix is its transpose by columns already: its first operand is our b.
cublasStatus_t Describe(const CudaGemm& gemm, DType type, Descriptors& out) {
  const cublasOperation_t first = gemm.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t second = gemm.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  const auto rows_of = [](bool transposed, int64_t rows, int64_t columns) {
    return static_cast<uint64_t>(transposed ? columns : rows);
  };
  Calls calls;
  calls(cublasLtMatmulDescInit(&out.product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  calls(cublasLtMatmulDescSetAttribute(&out.product, CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                       sizeof(first)));
  calls(cublasLtMatmulDescSetAttribute(&out.product, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                       sizeof(second)));
  if (gemm.bias != nullptr) {
    // The library's rows are our columns, and its bias is a column.
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    calls(cublasLtMatmulDescSetAttribute(&out.product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                         sizeof(epilogue)));
    calls(cublasLtMatmulDescSetAttribute(&out.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                         &gemm.bias, sizeof(gemm.bias)));
  }
  if (gemm.epilogue != CudaEpilogue::kNone) DescribeGelu(gemm, out.product, calls);
  calls(cublasLtMatrixLayoutInit(&out.a, LibraryType(type),
                                 rows_of(gemm.b_transposed, gemm.n, gemm.k),
                                 rows_of(gemm.b_transposed, gemm.k, gemm.n), gemm.b_stride));
  calls(cublasLtMatrixLayoutInit(&out.b, LibraryType(type),
                                 rows_of(gemm.a_transposed, gemm.k, gemm.m),
                                 rows_of(gemm.a_transposed, gemm.m, gemm.k), gemm.a_stride));
  calls(cublasLtMatrixLayoutInit(&out.d, LibraryType(gemm.d_type), static_cast<uint64_t>(gemm.n),
                                 static_cast<uint64_t>(gemm.m), gemm.d_stride));
  if (gemm.batch > 1) {
    DescribeBatch(gemm.batch, gemm.b_step, out.a, calls);
    DescribeBatch(gemm.batch, gemm.a_step, out.b, calls);
    DescribeBatch(gemm.batch, gemm.d_step, out.d, calls);
  }
  const auto workspace = static_cast<size_t>(kWorkspaceBytes);
  const int64_t steps = gemm.batch > 1 ? 1 : 0;
  const uint32_t a_alignment = AlignmentOf(gemm.b, steps * gemm.b_step * SizeOf(type));
  const uint32_t b_alignment = AlignmentOf(gemm.a, steps * gemm.a_step * SizeOf(type));
  const uint32_t c_alignment = AlignmentOf(Addend(gemm), steps * gemm.d_step * SizeOf(gemm.d_type));
  const uint32_t d_alignment = AlignmentOf(gemm.d, steps * gemm.d_step * SizeOf(gemm.d_type));
  calls(cublasLtMatmulPreferenceInit(&out.preference));
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t name, const auto& value) {
    calls(cublasLtMatmulPreferenceSetAttribute(&out.preference, name, &value, sizeof(value)));
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, d_alignment);
  return calls.status();
}

}  // namespace

absl::Status Run(CudaStream& stream, const CudaGemm& gemm) {
  if (gemm.m == 0 || gemm.n == 0 || gemm.batch == 0) return absl::OkStatus();
  const DType type = gemm.operands_f32 ? DType::kF32 : stream.device().compute_dtype();
  const std::string what =
      absl::StrCat("matrix product ", gemm.m, "x", gemm.k, "x", gemm.n, " of ", NameOf(type));
  Descriptors descriptors;
  WEFT_RETURN_IF_ERROR(CublasStatus(Describe(gemm, type, descriptors), what));
  // The library remembers what its heuristic answered before.
  cublasLtMatmulHeuristicResult_t choice = {};
  int choices = 0;
  WEFT_RETURN_IF_ERROR(CublasStatus(
      cublasLtMatmulAlgoGetHeuristic(stream.blas(), &descriptors.product, &descriptors.a,
                                     &descriptors.b, &descriptors.d, &descriptors.d,
                                     &descriptors.preference, 1, &choice, &choices),
      what));
  if (choices == 0) return absl::UnimplementedError(absl::StrCat(what, ": no algorithm"));
  WEFT_ASSIGN_OR_RETURN(const CudaScratch workspace, stream.Scratch(kWorkspaceBytes));
  const float alpha = 1;
  return CublasStatus(
      cublasLtMatmul(stream.blas(), &descriptors.product, &alpha, gemm.b, &descriptors.a, gemm.a,
                     &descriptors.b, &gemm.beta, Addend(gemm), &descriptors.d, gemm.d,
                     &descriptors.d, &choice.algo, workspace.data<void>(),
                     static_cast<size_t>(kWorkspaceBytes), stream.launch().stream),
      what);
}

}  // namespace weft::kernels
