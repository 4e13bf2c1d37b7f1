// How much of an exchange of gradients shows beside a backward pass, between the GPUs of this
// machine:
//
//   build/dev/bench/nccl_overlap_bench
//
// Every GPU multiplies matrices of random numbers (zeros would stay below the limit of power), as
// many as fill it, and after every few products a bucket of integers is added up over all GPUs on a
// stream beside them. The ways to add:
//
//   all_reduce         ncclAllReduce as NCCL chooses
//   all_reduce_4       on four multiprocessors at most
//   all_reduce_first   on a stream whose blocks go before those of the products
//   pieces             ncclAlltoAll, each GPU adds the pieces that it got, ncclAllGather
//   pieces_zero        the same where NCCL takes copy engines instead of multiprocessors if it can
//   peer_copies        the same with copies between the GPUs, without NCCL
//
// Times are milliseconds for all buckets: the products alone, the exchange alone, and both. `shows`
// is the part of the exchange's time by which the products take longer beside it.
#include <benchmark/benchmark.h>
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <nccl.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace {

constexpr int kBuckets = 16;
constexpr int kProductsPerBucket = 16;  // some 8 ms on an H200: a 32nd of a model's of 1.3 billion
constexpr size_t kElements = size_t{43} << 20;
constexpr int kRows = 16384, kColumns = 2048, kDepth = 5632;
constexpr size_t kWorkspace = size_t{64} << 20;
constexpr int kThreads = 256;

enum class Adds : uint8_t { kAllReduce, kPieces, kPeerCopies };

struct Way {
  const char* name;
  Adds adds;
  int most_blocks = NCCL_CONFIG_UNDEF_INT;
  int policy = NCCL_CONFIG_UNDEF_INT;
  bool goes_first = false;
};

constexpr Way kWays[] = {
    {"all_reduce", Adds::kAllReduce},
    {"all_reduce_4", Adds::kAllReduce, 4},
    {"all_reduce_first", Adds::kAllReduce, NCCL_CONFIG_UNDEF_INT, NCCL_CONFIG_UNDEF_INT, true},
    {"pieces", Adds::kPieces},
    {"pieces_zero", Adds::kPieces, NCCL_CONFIG_UNDEF_INT, NCCL_CTA_POLICY_ZERO},
    {"peer_copies", Adds::kPeerCopies},
};

template <typename Result>
void Must(Result result, const char* what) {
  if (static_cast<int>(result) == 0) return;
  std::fprintf(stderr, "nccl_overlap_bench: %s: error %d\n", what, static_cast<int>(result));
  std::exit(3);
}

// own[i] = the sum over all GPUs of got[gpu][i]; four elements a thread.
__global__ void __launch_bounds__(kThreads)
    AddPieces(int gpus, size_t piece, const int32_t* got, int32_t* own) {
  const size_t i = (size_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
  if (i >= piece) return;
  int4 sum = *reinterpret_cast<const int4*>(got + i);
  for (int gpu = 1; gpu < gpus; ++gpu) {
    const int4 next = *reinterpret_cast<const int4*>(got + static_cast<size_t>(gpu) * piece + i);
    sum.x += next.x, sum.y += next.y, sum.z += next.z, sum.w += next.w;
  }
  *reinterpret_cast<int4*>(own + i) = sum;
}

// Numbers within [-1, 1), in bf16.
__global__ void __launch_bounds__(kThreads) FillRandomly(size_t count, uint16_t* values) {
  const size_t i = size_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  auto bits = static_cast<uint32_t>(i) * 2654435761U;
  bits = (bits ^ (bits >> 15)) * 2246822519U;
  bits ^= bits >> 13;
  const float value = static_cast<float>(bits) * 0x1p-31F - 1.0F;
  values[i] = static_cast<uint16_t>(__float_as_uint(value) >> 16);
}

// C [kRows, kColumns] = A B in bf16 on one GPU, again and again.
class Products {
 public:
  Products() {
    const auto allocate = [](size_t bytes) {
      void* memory = nullptr;
      Must(cudaMalloc(&memory, bytes), "cudaMalloc");
      Must(cudaMemset(memory, 0, bytes), "cudaMemset");
      return memory;
    };
    a_ = allocate(size_t{2} * kRows * kDepth);
    b_ = allocate(size_t{2} * kDepth * kColumns);
    Fill(a_, size_t{kRows} * kDepth);
    Fill(b_, size_t{kDepth} * kColumns);
    c_ = allocate(size_t{2} * kRows * kColumns);
    workspace_ = allocate(kWorkspace);
    Must(cublasLtCreate(&handle_), "cublasLtCreate");
    Must(cublasLtMatmulDescCreate(&product_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "product");
    const auto layout = [](int rows, int columns) {
      cublasLtMatrixLayout_t made = nullptr;
      Must(cublasLtMatrixLayoutCreate(&made, CUDA_R_16BF, static_cast<uint64_t>(rows),
                                      static_cast<uint64_t>(columns), rows),
           "layout");
      return made;
    };
    a_layout_ = layout(kRows, kDepth);
    b_layout_ = layout(kDepth, kColumns);
    c_layout_ = layout(kRows, kColumns);
    cublasLtMatmulPreference_t preference = nullptr;
    Must(cublasLtMatmulPreferenceCreate(&preference), "preference");
    Must(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                              &kWorkspace, sizeof(kWorkspace)),
         "workspace");
    int found = 0;
    Must(cublasLtMatmulAlgoGetHeuristic(handle_, product_, a_layout_, b_layout_, c_layout_,
                                        c_layout_, preference, 1, &choice_, &found),
         "heuristic");
    Must(found == 1 ? 0 : 1, "no algorithm");
    cublasLtMatmulPreferenceDestroy(preference);
  }

  void Enqueue(cudaStream_t stream) {
    const float one = 1, zero = 0;
    Must(cublasLtMatmul(handle_, product_, &one, a_, a_layout_, b_, b_layout_, &zero, c_, c_layout_,
                        c_, c_layout_, &choice_.algo, workspace_, kWorkspace, stream),
         "product");
  }

 private:
  static void Fill(void* values, size_t count) {
    FillRandomly<<<static_cast<unsigned>((count + kThreads - 1) / kThreads), kThreads>>>(
        count, static_cast<uint16_t*>(values));
    Must(cudaDeviceSynchronize(), "FillRandomly");
  }

  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatrixLayout_t a_layout_ = nullptr, b_layout_ = nullptr, c_layout_ = nullptr;
  cublasLtMatmulHeuristicResult_t choice_ = {};
  void *a_ = nullptr, *b_ = nullptr, *c_ = nullptr, *workspace_ = nullptr;
};

struct Gpu {
  int ordinal = 0;
  cudaStream_t computes = nullptr, exchanges = nullptr;
  cudaEvent_t ready = nullptr, added = nullptr;
  std::unique_ptr<Products> products;
  ncclComm_t communicator = nullptr;
  // NCCL's own memory, which all GPUs of a gang may reach; registered as windows.
  int32_t *sums = nullptr, *got = nullptr;
};

// Leaves what it made to the process, which ends soon.
class Gang {
 public:
  Gang(const Way& way, int count) : way_(way), gpus_(static_cast<size_t>(count)) {
    for (int ordinal = 0; ordinal < count; ++ordinal) {
      Must(cudaSetDevice(ordinal), "cudaSetDevice");
      gpus_[static_cast<size_t>(ordinal)] = Make(ordinal, way.goes_first);
    }
    Connect();
  }

  // Milliseconds of all buckets.
  double Run(bool computes, bool exchanges) {
    const auto begin = std::chrono::steady_clock::now();
    for (int bucket = 0; bucket < kBuckets; ++bucket) {
      OnEach([&](Gpu& gpu) {
        for (int i = 0; computes && i < kProductsPerBucket; ++i)
          gpu.products->Enqueue(gpu.computes);
        Must(cudaEventRecord(gpu.ready, gpu.computes), "record");
        Must(cudaStreamWaitEvent(gpu.exchanges, gpu.ready), "wait");
      });
      if (exchanges) Exchange();
    }
    OnEach([](Gpu&) { Must(cudaDeviceSynchronize(), "synchronize"); });
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
        .count();
  }

 private:
  [[nodiscard]] size_t piece() const { return kElements / gpus_.size() / 4 * 4; }

  static Gpu Make(int ordinal, bool exchange_goes_first) {
    Gpu gpu;
    gpu.ordinal = ordinal;
    gpu.products = std::make_unique<Products>();
    int last = 0, first = 0;
    Must(cudaDeviceGetStreamPriorityRange(&last, &first), "priorities");
    Must(cudaStreamCreateWithPriority(&gpu.computes, cudaStreamNonBlocking, last), "stream");
    Must(cudaStreamCreateWithPriority(&gpu.exchanges, cudaStreamNonBlocking,
                                      exchange_goes_first ? first : last),
         "stream");
    for (cudaEvent_t* event : {&gpu.ready, &gpu.added}) {
      Must(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreate");
    }
    return gpu;
  }

  void Connect() {
    ncclUniqueId id;
    Must(ncclGetUniqueId(&id), "ncclGetUniqueId");
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.maxCTAs = way_.most_blocks;
    config.CTAPolicy = way_.policy;
    const int count = static_cast<int>(gpus_.size());
    Grouped([&](Gpu& gpu) {
      Must(ncclCommInitRankConfig(&gpu.communicator, count, id, gpu.ordinal, &config), "connect");
    });
    Allocate(&Gpu::sums);
    Allocate(&Gpu::got);
  }
  void Allocate(int32_t* Gpu::*memory) {
    OnEach([&](Gpu& gpu) {
      void* made = nullptr;
      Must(ncclMemAlloc(&made, kElements * sizeof(int32_t)), "ncclMemAlloc");
      Must(cudaMemset(made, 0, kElements * sizeof(int32_t)), "cudaMemset");
      gpu.*memory = static_cast<int32_t*>(made);
    });
    Grouped([&](Gpu& gpu) {
      ncclWindow_t window = nullptr;
      Must(ncclCommWindowRegister(gpu.communicator, gpu.*memory, kElements * sizeof(int32_t),
                                  &window, NCCL_WIN_COLL_SYMMETRIC),
           "ncclCommWindowRegister");
    });
  }

  void OnEach(const std::function<void(Gpu&)>& work) {
    for (Gpu& gpu : gpus_) {
      Must(cudaSetDevice(gpu.ordinal), "cudaSetDevice");
      work(gpu);
    }
  }
  void Grouped(const std::function<void(Gpu&)>& work) {
    Must(ncclGroupStart(), "ncclGroupStart");
    OnEach(work);
    Must(ncclGroupEnd(), "ncclGroupEnd");
  }

  void Exchange() {
    switch (way_.adds) {
      case Adds::kAllReduce:
        return Grouped([](Gpu& gpu) {
          Must(ncclAllReduce(gpu.sums, gpu.sums, kElements, ncclInt32, ncclSum, gpu.communicator,
                             gpu.exchanges),
               "ncclAllReduce");
        });
      case Adds::kPieces:
        Grouped([&](Gpu& gpu) {
          Must(ncclAlltoAll(gpu.sums, gpu.got, piece(), ncclInt32, gpu.communicator, gpu.exchanges),
               "ncclAlltoAll");
        });
        OnEach([&](Gpu& gpu) { Add(gpu); });
        return Grouped([&](Gpu& gpu) {
          Must(ncclAllGather(Piece(gpu, gpu.ordinal), gpu.sums, piece(), ncclInt32,
                             gpu.communicator, gpu.exchanges),
               "ncclAllGather");
        });
      case Adds::kPeerCopies:
        return ExchangeByCopies();
    }
  }

  void ExchangeByCopies() {
    AwaitEachOther();
    OnEach([&](Gpu& gpu) {
      for (Gpu& other : gpus_) {
        Copy(other, Piece(other, gpu.ordinal), gpu,
             gpu.got + static_cast<size_t>(other.ordinal) * piece());
      }
    });
    AwaitEachOther();  // a piece may be overwritten when all have taken theirs
    OnEach([&](Gpu& gpu) { Add(gpu); });
    AwaitEachOther();
    OnEach([&](Gpu& gpu) {
      for (Gpu& other : gpus_) {
        if (&other == &gpu) continue;
        Copy(other, Piece(other, other.ordinal), gpu, Piece(gpu, other.ordinal));
      }
    });
    AwaitEachOther();
  }
  // The exchanges of each GPU wait for what those of all have enqueued.
  void AwaitEachOther() {
    OnEach([](Gpu& gpu) { Must(cudaEventRecord(gpu.added, gpu.exchanges), "record"); });
    OnEach([&](Gpu& gpu) {
      for (Gpu& other : gpus_) Must(cudaStreamWaitEvent(gpu.exchanges, other.added), "wait");
    });
  }
  void Copy(const Gpu& from, const int32_t* source, const Gpu& to, int32_t* target) {
    Must(cudaMemcpyPeerAsync(target, to.ordinal, source, from.ordinal, piece() * sizeof(int32_t),
                             to.exchanges),
         "cudaMemcpyPeerAsync");
  }
  [[nodiscard]] int32_t* Piece(const Gpu& gpu, int of) const {
    return gpu.sums + static_cast<size_t>(of) * piece();
  }
  void Add(Gpu& gpu) {
    const size_t blocks = (piece() / 4 + kThreads - 1) / kThreads;
    AddPieces<<<static_cast<unsigned>(blocks), kThreads, 0, gpu.exchanges>>>(
        static_cast<int>(gpus_.size()), piece(), gpu.got, Piece(gpu, gpu.ordinal));
    Must(cudaGetLastError(), "AddPieces");
  }

  const Way way_;
  std::vector<Gpu> gpus_;
};

int GpuCount() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

void Overlap(benchmark::State& state, const Way& way, int gpus) {
  Gang gang(way, gpus);
  gang.Run(true, true);  // warms up
  double computes = 0, exchanges = 0, both = 0;
  for (auto unused : state) {
    benchmark::DoNotOptimize(unused);
    computes += gang.Run(true, false);
    exchanges += gang.Run(false, true);
    both += gang.Run(true, true);
  }
  const auto runs = static_cast<double>(state.iterations());
  state.counters["products"] = computes / runs;
  state.counters["exchange"] = exchanges / runs;
  state.counters["together"] = both / runs;
  state.counters["shows"] = (both - computes) / exchanges;
}

}  // namespace

int main(int argc, char** argv) {
  const int gpus = GpuCount();
  if (gpus < 2) std::fprintf(stderr, "nothing is measured: needs two GPUs, here are %d\n", gpus);
  for (const Way& way : kWays) {
    if (gpus < 2) break;
    benchmark::RegisterBenchmark(
        (std::string("Overlap/") + way.name).c_str(),
        [&way, gpus](benchmark::State& state) { Overlap(state, way, gpus); })
        ->Iterations(5)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
