// What NCCL needs after the loss of a rank, between the GPUs of this machine:
//
//   build/dev/bench/nccl_recovery_bench
//
// Every rank is a process; the last one dies by SIGKILL when all are connected, and the others call
// an all-reduce that it never joins. Then either they abort their communicators and connect anew,
// with a process in the dead one's place that stood by with its GPU ready (reinit), or they shrink
// the gang to those that live (shrink). Times are milliseconds of rank 0:
//
//   init    ncclCommInitRankConfig until ready, the first in its process
//   first, steady    all-reduce of 64 MiB of int32: the first, and the median of twenty more
//   abort   ncclCommAbort under the hanging call
//   again   connecting anew, or ncclCommShrink with the abort in it
//   first_again    the first all-reduce behind that
#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <new>
#include <vector>

namespace {

constexpr size_t kElements = size_t{16} << 20;
constexpr int kRepeats = 20;
constexpr std::chrono::seconds kLimit(40);

enum Measure : uint8_t { kInit, kFirst, kSteady, kAbort, kAgain, kFirstAgain, kMeasures };
constexpr std::array<const char*, kMeasures> kNames = {"init",  "first", "steady",
                                                       "abort", "again", "first_again"};

// Where the processes meet.
struct Shared {
  std::array<std::atomic<int>, 8> arrived = {};
  std::atomic<bool> dead = false;
  std::array<ncclUniqueId, 2> ids = {};
  std::array<double, kMeasures> milliseconds = {};
};

using Clock = std::chrono::steady_clock;

[[noreturn]] void Give(const char* what) {
  std::fprintf(stderr, "nccl_recovery_bench: %s\n", what);
  _exit(3);
}

void Await(const char* what, const std::function<bool()>& condition) {
  const Clock::time_point limit = Clock::now() + kLimit;
  while (!condition()) {
    if (Clock::now() > limit) Give(what);
    usleep(20);
  }
}

double Milliseconds(const std::function<void()>& work) {
  const Clock::time_point begin = Clock::now();
  work();
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

void Must(ncclResult_t result, const char* what) {
  if (result != ncclSuccess && result != ncclInProgress) Give(what);
}
void Must(cudaError_t error, const char* what) {
  if (error != cudaSuccess) Give(what);
}

class Rank {
 public:
  Rank(Shared& shared, int gpu, int ranks) : shared_(shared), gpu_(gpu), ranks_(ranks) {
    Must(cudaSetDevice(gpu), "cudaSetDevice");
    Must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    Must(cudaMalloc(&memory_, kElements * sizeof(int32_t)), "cudaMalloc");
    Must(cudaMemset(memory_, 0, kElements * sizeof(int32_t)), "cudaMemset");
    Must(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }

  void Meet(size_t place, int processes) {
    ++shared_.arrived[place];
    Await("not all came", [&] { return shared_.arrived[place] >= processes; });
  }
  void MakeId(size_t which) {
    if (gpu_ == 0) Must(ncclGetUniqueId(&shared_.ids[which]), "ncclGetUniqueId");
  }
  void Connect(size_t which) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    Must(ncclCommInitRankConfig(&communicator_, ranks_, shared_.ids[which], gpu_, &config),
         "ncclCommInitRankConfig");
    AwaitReady();
  }
  void Shrink() {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    int lost = ranks_ - 1;
    ncclComm_t smaller = nullptr;
    Must(ncclCommShrink(communicator_, &lost, 1, &smaller, &config, NCCL_SHRINK_ABORT),
         "ncclCommShrink");
    // The smaller gang is there when the old communicator says so.
    AwaitReady();
    communicator_ = smaller;
    AwaitReady();
  }
  void Abort() { Must(ncclCommAbort(communicator_), "ncclCommAbort"); }
  void Enqueue() {
    Must(ncclAllReduce(memory_, memory_, kElements, ncclInt32, ncclSum, communicator_, stream_),
         "ncclAllReduce");
    AwaitReady();
  }
  [[nodiscard]] bool Done() { return cudaStreamQuery(stream_) == cudaSuccess; }
  void AllReduce() {
    Enqueue();
    Await("an all-reduce does not end", [&] { return Done(); });
  }

 private:
  void AwaitReady() {
    Await("NCCL does not get ready", [&] {
      ncclResult_t state = ncclSuccess;
      Must(ncclCommGetAsyncError(communicator_, &state), "ncclCommGetAsyncError");
      Must(state, "NCCL failed");
      return state == ncclSuccess;
    });
  }

  Shared& shared_;
  const int gpu_;
  const int ranks_;
  cudaStream_t stream_ = nullptr;
  void* memory_ = nullptr;
  ncclComm_t communicator_ = nullptr;
};

// A rank from the beginning; the last one dies on the way.
void Live(Shared& shared, int gpu, int ranks, bool shrink) {
  Rank rank(shared, gpu, ranks);
  std::array<double, kMeasures> took = {};
  rank.MakeId(0);
  rank.Meet(0, ranks);
  took[kInit] = Milliseconds([&] { rank.Connect(0); });
  took[kFirst] = Milliseconds([&] { rank.AllReduce(); });
  std::array<double, kRepeats> repeats = {};
  for (double& repeat : repeats) repeat = Milliseconds([&] { rank.AllReduce(); });
  std::sort(repeats.begin(), repeats.end());
  took[kSteady] = repeats[kRepeats / 2];
  rank.Meet(1, ranks);
  if (gpu == ranks - 1) kill(getpid(), SIGKILL);
  Await("nobody died", [&] { return shared.dead.load(); });

  rank.Enqueue();
  usleep(50'000);
  if (rank.Done()) Give("the all-reduce ended without the dead rank");
  if (shrink) {
    took[kAgain] = Milliseconds([&] { rank.Shrink(); });
  } else {
    took[kAbort] = Milliseconds([&] { rank.Abort(); });
    rank.MakeId(1);
    rank.Meet(2, ranks);  // with the one that stood by
    took[kAgain] = Milliseconds([&] { rank.Connect(1); });
  }
  took[kFirstAgain] = Milliseconds([&] { rank.AllReduce(); });
  if (gpu == 0) shared.milliseconds = took;
  rank.Meet(3, shrink ? ranks - 1 : ranks);
}

// Takes the dead rank's place.
void StandBy(Shared& shared, int ranks) {
  Rank rank(shared, ranks - 1, ranks);
  Await("nobody died", [&] { return shared.dead.load(); });
  rank.Meet(2, ranks);
  rank.Connect(1);
  rank.AllReduce();
  rank.Meet(3, ranks);
}

pid_t Start(const std::function<void()>& work) {
  const pid_t child = fork();
  if (child == 0) {
    work();
    _exit(0);
  }
  return child;
}

// In a process of its own: this one must not touch CUDA before it forks.
int GpuCount() {
  int status = 0;
  const pid_t child = fork();
  if (child == 0) {
    int count = 0;
    _exit(cudaGetDeviceCount(&count) == cudaSuccess ? count : 0);
  }
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

void LossOfARank(benchmark::State& state, int ranks, bool shrink) {
  for (auto unused : state) {
    benchmark::DoNotOptimize(unused);
    void* memory =
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return state.SkipWithError("mmap");
    auto& shared = *new (memory) Shared();
    std::vector<pid_t> children;
    for (int gpu = 0; gpu < ranks; ++gpu) {
      children.push_back(Start([&, gpu] { Live(shared, gpu, ranks, shrink); }));
    }
    if (!shrink) children.push_back(Start([&] { StandBy(shared, ranks); }));
    const pid_t victim = children[static_cast<size_t>(ranks - 1)];
    bool good = true;
    for (size_t i = 0; i < children.size(); ++i) {
      int status = 0;
      const pid_t ended = waitpid(-1, &status, 0);
      if (ended == victim) shared.dead = true;
      good = good && (ended == victim || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    }
    if (!good) return state.SkipWithError("a rank failed; see its line above");
    state.counters["gpus"] = ranks;
    for (size_t i = 0; i < kMeasures; ++i) state.counters[kNames[i]] = shared.milliseconds[i];
    state.SetIterationTime((shared.milliseconds[kAbort] + shared.milliseconds[kAgain] +
                            shared.milliseconds[kFirstAgain]) /
                           1e3);
    munmap(memory, sizeof(Shared));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int gpus = GpuCount();
  if (gpus < 2) std::fprintf(stderr, "nothing is measured: needs two GPUs, here are %d\n", gpus);
  for (const bool shrink : {false, true}) {
    if (gpus < 2) break;
    benchmark::RegisterBenchmark(
        shrink ? "LossOfARank/shrink" : "LossOfARank/reinit",
        [gpus, shrink](benchmark::State& state) { LossOfARank(state, gpus, shrink); })
        ->Iterations(1)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
