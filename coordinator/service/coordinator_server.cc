#include "coordinator/service/coordinator_server.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/log/log.h"
#include "common/metrics/metrics_server.h"
#include "common/rpc/grpc_server.h"
#include "common/rpc/tls_credentials.h"
#include "common/time/real_event_loop.h"
#include "common/tls/certificate_metric.h"
#include "coordinator/archive/sqlite_step_history.h"
#include "coordinator/service/checkpoint_service.h"
#include "coordinator/service/job_service.h"
#include "coordinator/service/metric_names.h"
#include "coordinator/service/queue_service.h"
#include "coordinator/service/worker_link_service.h"
#include "coordinator/service/worker_service.h"

namespace weft::coordinator {
namespace {

// How long calls may take to end by themselves when the server stops.
constexpr absl::Duration kStopGrace = absl::Seconds(2);
// A loop that is stuck for this long cannot serve; it may recover.
constexpr absl::Duration kStuckNotReady = absl::Seconds(5);
// How often gRPC's health service is told whether this one is ready.
constexpr absl::Duration kHealthInterval = absl::Milliseconds(500);

std::string NewIncarnation() {
  return absl::StrCat(absl::ToUnixMicros(absl::Now()), "-", getpid());
}

}  // namespace

class CoordinatorServer::Parts {
 public:
  explicit Parts(Options options)
      : options_(std::move(options)), certificate_(metrics_, options_.certificate) {}

  absl::Status Start(FindStore find);
  void Stop();

  [[nodiscard]] const GrpcServer& grpc() const { return *grpc_; }
  [[nodiscard]] const MetricsServer& http() const { return *http_; }

 private:
  void StandBy(const std::string& why);  // any thread
  absl::Status OpenArchive();
  void StartDriver(StoredCluster loaded);
  void RenewLeadership();  // on the store loop
  absl::Status StartHttp();
  void MeasureCertificate();  // on the archive loop, which may wait for files
  absl::Status Serve();
  void EndServing();  // any thread
  // Runs on the loop and waits.
  void RunOnLoop(absl::AnyInvocable<void()> task);
  // The probes: any thread.
  [[nodiscard]] absl::Status Started() const;
  [[nodiscard]] absl::Status Live() const;
  [[nodiscard]] absl::Status Ready() const;
  void TellHealth();  // on the health loop

  const Options options_;
  PrometheusMetrics metrics_;
  CertificateMetric certificate_;
  std::atomic<bool> started_ = false;  // once it has served, or stood by
  std::atomic<bool> serving_ = false;
  bool stopped_ = false;
  mutable absl::Mutex mutex_;
  std::string standing_by_ ABSL_GUARDED_BY(mutex_);  // why; empty: not

  std::unique_ptr<JobStore> store_;
  std::unique_ptr<StepHistory> steps_;
  std::unique_ptr<LogStore> logs_;
  WorkerLinks links_;
  OpenStreams streams_;
  // Threads after what they use, so that they end first. The loop outlives the other two.
  std::unique_ptr<Archive> archive_;
  std::unique_ptr<JobBoard> board_;
  std::unique_ptr<Driver> driver_;
  std::unique_ptr<ServiceContext> context_;
  RealEventLoop loop_{"loop"};
  RealEventLoop store_loop_{"store"};
  RealEventLoop archive_loop_{"archive"};

  std::unique_ptr<JobService> job_service_;
  std::unique_ptr<WorkerService> worker_service_;
  std::unique_ptr<QueueService> queue_service_;
  std::unique_ptr<CheckpointService> checkpoint_service_;
  std::unique_ptr<WorkerLinkService> link_service_;
  std::unique_ptr<GrpcServer> grpc_;
  std::unique_ptr<MetricsServer> http_;
  RealEventLoop health_loop_{"health"};  // apart, since it tells of the others
};

absl::Status CoordinatorServer::Parts::Start(FindStore find) {
  // First: a large store takes a while, and whoever asks meanwhile is told so.
  WEFT_RETURN_IF_ERROR(StartHttp());
  metrics_.Set(kLeader, {}, 0);
  archive_loop_.Post([this] { MeasureCertificate(); });
  WEFT_ASSIGN_OR_RETURN(store_, find([this](const std::string& why) { StandBy(why); }));
  StandBy("");
  WEFT_ASSIGN_OR_RETURN(StoredCluster loaded, store_->Load());
  WEFT_RETURN_IF_ERROR(OpenArchive());
  metrics_.Set(kBuildFacts, {"weft-coordinator", options_.version}, 1);
  LogInfo("store", "loaded",
          {{"jobs", loaded.state.jobs.size()},
           {"queues", loaded.state.queues.size()},
           {"workers", loaded.state.workers.size()},
           {"version", loaded.version.value()}});
  StartDriver(std::move(loaded));
  return Serve();
}

void CoordinatorServer::Parts::StandBy(const std::string& why) {
  const absl::MutexLock lock(&mutex_);
  if (why == standing_by_) return;
  standing_by_ = why;
  if (why.empty()) return;
  started_ = true;
  LogInfo("coordinator", why, {{"metrics", http_->address()}});
}

absl::Status CoordinatorServer::Parts::OpenArchive() {
  const StepHistory::Options steps = {.max_points = options_.steps_kept_per_job};
  if (options_.open_steps) {
    WEFT_ASSIGN_OR_RETURN(steps_, options_.open_steps(steps));
  } else {
    WEFT_ASSIGN_OR_RETURN(
        steps_, SqliteStepHistory::Open(JoinPath(options_.state_directory, "history.db"), steps));
  }
  const std::string logs = options_.log_directory.empty()
                               ? JoinPath(options_.state_directory, "logs")
                               : options_.log_directory;
  WEFT_RETURN_IF_ERROR(RealFileSystem().CreateDirectories(logs));
  logs_ = std::make_unique<LogStore>(
      LogStore::Options{.directory = logs, .max_bytes_per_job = options_.log_bytes_per_job});
  return absl::OkStatus();
}

void CoordinatorServer::Parts::StartDriver(StoredCluster loaded) {
  archive_ = std::make_unique<Archive>(loop_, archive_loop_, *steps_, *logs_);
  board_ = std::make_unique<JobBoard>(loop_, *archive_, metrics_, [this](const absl::Status& why) {
    EndServing();
    if (options_.stepped_down) options_.stepped_down(why);
  });
  driver_ = std::make_unique<Driver>(loop_, store_loop_, *store_, links_, board_.get(),
                                     Driver::Options{.policy = options_.policy});
  context_ =
      std::make_unique<ServiceContext>(ServiceContext{.loop = loop_,
                                                      .driver = *driver_,
                                                      .archive = *archive_,
                                                      .board = *board_,
                                                      .streams = streams_,
                                                      .metrics = metrics_,
                                                      .version = options_.version,
                                                      .incarnation = NewIncarnation(),
                                                      .checkpoint_root = options_.checkpoint_root});
  RunOnLoop([this, &loaded] {
    driver_->Start(std::move(loaded));
    board_->Begin(*driver_, steps_->summaries());
  });
  store_loop_.Post([this] { RenewLeadership(); });
}

void CoordinatorServer::Parts::RenewLeadership() {
  if (store_->renewal() == absl::InfiniteDuration()) return;
  const absl::Status status = store_->Renew();
  if (absl::IsAborted(status)) {
    loop_.Post([this, status] { driver_->StepDown(status); });
    return;
  }
  store_loop_.RunAt(store_loop_.clock().Now() + store_->renewal(), [this] { RenewLeadership(); });
}

absl::Status CoordinatorServer::Parts::StartHttp() {
  MetricsServer::Options http;
  http.listen = options_.metrics_listen;
  http.started = [this] { return Started(); };
  http.live = [this] { return Live(); };
  http.ready = [this] { return Ready(); };
  WEFT_ASSIGN_OR_RETURN(http_, MetricsServer::Start(metrics_, std::move(http)));
  return absl::OkStatus();
}

void CoordinatorServer::Parts::MeasureCertificate() {
  certificate_.Measure();
  archive_loop_.RunAt(archive_loop_.clock().Now() + kTlsRefresh, [this] { MeasureCertificate(); });
}

absl::Status CoordinatorServer::Parts::Serve() {
  job_service_ = std::make_unique<JobService>(*context_);
  worker_service_ = std::make_unique<WorkerService>(*context_);
  queue_service_ = std::make_unique<QueueService>(*context_);
  checkpoint_service_ = std::make_unique<CheckpointService>(*context_, links_);
  link_service_ = std::make_unique<WorkerLinkService>(*context_, links_);
  GrpcServer::Options grpc;
  grpc.listen = options_.listen;
  grpc.credentials = options_.credentials;
  grpc.metrics = &metrics_;
  grpc.service_names = {v1::JobService::service_full_name(), v1::WorkerService::service_full_name(),
                        v1::QueueService::service_full_name(),
                        v1::CheckpointService::service_full_name(),
                        v1::WorkerLinkService::service_full_name()};
  WEFT_ASSIGN_OR_RETURN(
      grpc_,
      GrpcServer::Start(grpc, {job_service_.get(), worker_service_.get(), queue_service_.get(),
                               checkpoint_service_.get(), link_service_.get()}));
  grpc_->SetServing(true);
  serving_ = true;
  started_ = true;
  metrics_.Set(kLeader, {}, 1);
  health_loop_.Post([this] { TellHealth(); });
  return absl::OkStatus();
}

void CoordinatorServer::Parts::EndServing() {
  serving_ = false;
  metrics_.Set(kLeader, {}, 0);
}

absl::Status CoordinatorServer::Parts::Started() const {
  return started_ ? absl::OkStatus() : absl::UnavailableError("loading the state");
}

absl::Status CoordinatorServer::Parts::Live() const {
  const absl::Duration stuck = loop_.Stuck();
  if (stuck < options_.hang_timeout) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("the event loop has been stuck for ", absl::FormatDuration(stuck)));
}

absl::Status CoordinatorServer::Parts::Ready() const {
  {
    const absl::MutexLock lock(&mutex_);
    if (!standing_by_.empty()) return absl::UnavailableError(standing_by_);
  }
  if (!serving_) return absl::UnavailableError(started_ ? "stopping" : "loading the state");
  if (loop_.Stuck() > std::min(kStuckNotReady, options_.hang_timeout)) {
    return absl::UnavailableError("the event loop is behind");
  }
  return absl::OkStatus();
}

void CoordinatorServer::Parts::TellHealth() {
  grpc_->SetServing(Ready().ok());
  health_loop_.RunAt(health_loop_.clock().Now() + kHealthInterval, [this] { TellHealth(); });
}

void CoordinatorServer::Parts::RunOnLoop(absl::AnyInvocable<void()> task) {
  absl::Notification done;
  loop_.Post([&task, &done] {
    task();
    done.Notify();
  });
  done.WaitForNotification();
}

void CoordinatorServer::Parts::Stop() {
  if (std::exchange(stopped_, true)) return;
  EndServing();
  health_loop_.Stop();
  if (grpc_ != nullptr) {
    grpc_->SetServing(false);
    RunOnLoop([this] { streams_.EndAll(absl::UnavailableError("the coordinator is stopping")); });
    archive_->Stop();
    grpc_->Shutdown(kStopGrace);  // the loops still run: every call gets its answer
  }
  if (board_ != nullptr) RunOnLoop([this] { board_->End(); });
  archive_loop_.Stop();
  store_loop_.Stop();
  loop_.Stop();
  http_.reset();
}

CoordinatorServer::CoordinatorServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

CoordinatorServer::~CoordinatorServer() { Stop(); }

absl::StatusOr<std::unique_ptr<CoordinatorServer>> CoordinatorServer::Start(Options options,
                                                                            FindStore find) {
  // Destroyed on failure, which stops what has begun.
  std::unique_ptr<CoordinatorServer> server(
      new CoordinatorServer(std::make_unique<Parts>(std::move(options))));
  WEFT_RETURN_IF_ERROR(server->parts_->Start(std::move(find)));
  return server;
}

absl::StatusOr<std::unique_ptr<CoordinatorServer>> CoordinatorServer::Start(
    Options options, std::unique_ptr<JobStore> store) {
  return Start(std::move(options), [&store](const Tell&) { return std::move(store); });
}

const std::string& CoordinatorServer::address() const { return parts_->grpc().address(); }

const std::string& CoordinatorServer::metrics_address() const { return parts_->http().address(); }

void CoordinatorServer::Stop() { parts_->Stop(); }

}  // namespace weft::coordinator
