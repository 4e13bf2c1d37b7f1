// How many jobs a second are accepted and durable: real gRPC on loopback, SQLite with full sync in
// $TMPDIR, N clients that each wait for their answer.
//
//   build/dev/bench/submit_bench
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "common/base/check.h"
#include "common/log/log.h"
#include "common/rpc/grpc_channel.h"
#include "coordinator/service/coordinator_server.h"
#include "coordinator/store/sqlite_job_store.h"
#include "weft/v1/job.grpc.pb.h"

namespace weft::coordinator {
namespace {

struct Cluster {
  std::string directory;
  std::unique_ptr<CoordinatorServer> server;
};
Cluster* cluster = nullptr;  // of the benchmark that runs

void StartCluster(const benchmark::State& /*state*/) {
  SetLogLevel(LogLevel::kWarning);
  cluster = new Cluster;
  std::string pattern = (std::filesystem::temp_directory_path() / "weft-bench-XXXXXX").string();
  WEFT_CHECK(mkdtemp(pattern.data()) != nullptr);
  cluster->directory = pattern;
  auto store = SqliteJobStore::Open(cluster->directory);
  WEFT_CHECK_MSG(store.ok(), store.status().ToString());
  CoordinatorServer::Options options;
  options.state_directory = cluster->directory;
  options.policy.max_queued_jobs = 10000000;
  auto server = CoordinatorServer::Start(options, *std::move(store));
  WEFT_CHECK_MSG(server.ok(), server.status().ToString());
  cluster->server = *std::move(server);
}

void StopCluster(const benchmark::State& /*state*/) {
  cluster->server.reset();
  std::error_code ignored;
  std::filesystem::remove_all(cluster->directory, ignored);
  delete cluster;
}

v1::CreateJobRequest Request() {
  v1::CreateJobRequest request;
  v1::JobSpec& spec = *request.mutable_spec();
  spec.set_name("bench");
  spec.mutable_model()->set_width(64);
  spec.mutable_model()->set_layers(2);
  spec.mutable_model()->add_mixers()->mutable_delta()->set_heads(2);
  spec.mutable_data()->mutable_text()->add_paths("/usr/share/common-licenses");
  spec.mutable_training()->set_steps(100);
  spec.mutable_training()->set_batch_size(8);
  spec.mutable_training()->set_sequence_length(128);
  return request;
}

void BM_Submit(benchmark::State& state) {
  const auto stub = v1::JobService::NewStub(NewChannel(cluster->server->address()));
  const v1::CreateJobRequest request = Request();
  for (auto unused : state) {
    grpc::ClientContext context;
    SetTimeout(context, absl::Seconds(30));
    v1::Job job;
    const grpc::Status status = stub->CreateJob(&context, request, &job);
    WEFT_CHECK_MSG(status.ok(), status.error_message());
  }
  state.SetItemsProcessed(state.iterations());  // durable submits a second
}
BENCHMARK(BM_Submit)
    ->Setup(StartCluster)
    ->Teardown(StopCluster)
    ->UseRealTime()
    ->Threads(1)
    ->Threads(8)
    ->Threads(32)
    ->Threads(64);

}  // namespace
}  // namespace weft::coordinator
