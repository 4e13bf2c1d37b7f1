// How many jobs a second are accepted and durable: real gRPC on loopback, N clients that each wait
// for their answer. The state is in SQLite with full sync, or in a PostgreSQL server of our own
// that syncs as it is shipped; both on the disk of $TMPDIR. Their repetitions take turns in an
// order by chance, so that what else the machine does meets both; shown are medians and their
// ratios.
//
//   build/dev/bench/submit_bench
#include <benchmark/benchmark.h>

#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/base/check.h"
#include "common/log/log.h"
#include "common/rpc/grpc_channel.h"
#include "coordinator/service/coordinator_server.h"
#include "coordinator/store/postgres_election.h"
#include "coordinator/store/sqlite_job_store.h"
#include "tests/testing/postgres_server.h"
#include "tests/testing/temp_dir.h"
#include "weft/v1/job.grpc.pb.h"

namespace weft::coordinator {
namespace {

using weft::testing::PostgresServer;
using weft::testing::TempDir;

// A coordinator that has just been set up: on SQLite in its folder, or in a database of its own.
class Cluster {
 public:
  explicit Cluster(PostgresServer* postgres) {
    CoordinatorServer::Options options;
    options.state_directory = directory_.path().string();
    options.policy.max_queued_jobs = 10000000;
    auto server = CoordinatorServer::Start(options, StoreOf(postgres));
    WEFT_CHECK_MSG(server.ok(), server.status().ToString());
    server_ = *std::move(server);
  }
  [[nodiscard]] const std::string& address() const { return server_->address(); }

 private:
  std::unique_ptr<JobStore> StoreOf(PostgresServer* postgres) const {
    if (postgres == nullptr) {
      auto store = SqliteJobStore::Open(directory_.path().string());
      WEFT_CHECK_MSG(store.ok(), store.status().ToString());
      return *std::move(store);
    }
    PostgresOptions options;
    options.target = postgres->NewDatabase();
    options.holder = "bench";
    auto store = AwaitLeadership(
        options, {.pause = [](absl::Duration) { return false; }, .tell = [](const auto&) {}});
    WEFT_CHECK_MSG(store.ok(), store.status().ToString());
    return *std::move(store);
  }

  const TempDir directory_;
  std::unique_ptr<CoordinatorServer> server_;
};

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

// Of the benchmark that runs.
PostgresServer* postgres = nullptr;
Cluster* cluster = nullptr;

void SetUpSqlite(const benchmark::State&) { cluster = new Cluster(nullptr); }
void SetUpPostgres(const benchmark::State&) { cluster = new Cluster(postgres); }
void TearDown(const benchmark::State&) { delete std::exchange(cluster, nullptr); }

struct Store {
  const char* name;
  void (*set_up)(const benchmark::State&);
};
constexpr Store kStores[] = {{"SQLite", SetUpSqlite}, {"PostgreSQL", SetUpPostgres}};

constexpr int kClients[] = {1, 8, 32, 64};

void Submit(benchmark::State& state) {
  const auto stub = v1::JobService::NewStub(NewChannel(cluster->address()));
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

// Shows medians alone, in order, once all are there.
class MedianReporter final : public benchmark::ConsoleReporter {
 public:
  MedianReporter() : ConsoleReporter(OO_Tabular) {}

  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.aggregate_name == "median") {
        medians_.insert_or_assign({run.threads, run.run_name.function_name}, run);
      }
    }
  }
  void Finalize() override {
    for (const auto& [key, run] : medians_) ConsoleReporter::ReportRuns({run});
    for (const auto& [key, run] : medians_) {
      const auto sqlite = medians_.find({key.first, "SQLite"});
      if (key.second == "SQLite" || sqlite == medians_.end()) continue;
      std::printf("%s over SQLite, %d client(s): %.2f\n", key.second.c_str(),
                  static_cast<int>(key.first), RateOf(run) / RateOf(sqlite->second));
    }
  }

 private:
  static double RateOf(const Run& run) { return run.counters.at("items_per_second"); }

  std::map<std::pair<int64_t, std::string>, Run> medians_;  // by clients and store
};

void Run(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin() + 1, "--benchmark_enable_random_interleaving=true");
  std::vector<char*> pointers;
  pointers.reserve(arguments.size());
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  int count = static_cast<int>(pointers.size());
  benchmark::Initialize(&count, pointers.data());
  SetLogLevel(LogLevel::kWarning);
  PostgresServer server(PostgresServer::Sync::kOn);
  postgres = &server;
  for (const int clients : kClients) {
    for (const Store& store : kStores) {
      benchmark::RegisterBenchmark(store.name, Submit)
          ->Setup(store.set_up)
          ->Teardown(TearDown)
          ->UseRealTime()
          ->Repetitions(5)
          ->Threads(clients);
    }
  }
  MedianReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
}

}  // namespace
}  // namespace weft::coordinator

int main(int argc, char** argv) { weft::coordinator::Run({argv, argv + argc}); }
