#include "tests/coordinator/service/fake_worker.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/rpc/grpc_channel.h"
#include "common/rpc/grpc_status.h"

namespace weft::coordinator::testing {
namespace {
constexpr absl::Duration kPatience = absl::Seconds(20);
}  // namespace

v1::Hello FakeWorker::HelloOf(const std::string& name, const std::string& incarnation) {
  v1::Hello hello;
  hello.set_protocol_version(1);
  hello.set_worker(name);
  hello.set_incarnation(incarnation);
  hello.set_peer_address("127.0.0.1:1");
  hello.set_version("0.1.0-test");
  v1::Device& device = *hello.add_devices();
  device.set_kind(v1::DEVICE_KIND_CPU);
  device.set_device_class("cpu-test");
  device.set_threads(2);
  return hello;
}

FakeWorker::FakeWorker(const std::string& address)
    : stub_(v1::WorkerLinkService::NewStub(NewChannel(address))) {
  SetTimeout(context_, absl::Seconds(100));
  stream_ = stub_->Connect(&context_);
  reader_ = std::thread([this] { Read(); });
}

FakeWorker::~FakeWorker() {
  context_.TryCancel();
  reader_.join();
}

void FakeWorker::Read() {
  v1::CoordinatorMessage message;
  while (stream_->Read(&message)) {
    const absl::MutexLock lock(&mutex_);
    received_.push_back(message);
  }
  const absl::Status status = FromGrpc(stream_->Finish());
  const absl::MutexLock lock(&mutex_);
  ended_ = status;
}

void FakeWorker::Send(const v1::WorkerMessage& message) { stream_->Write(message); }

void FakeWorker::SendHello(const v1::Hello& hello) {
  v1::WorkerMessage message;
  *message.mutable_hello() = hello;
  Send(message);
}

void FakeWorker::SendHeartbeat(const v1::StartMember& start, v1::MemberStatus::Phase phase,
                               int64_t step) {
  v1::WorkerMessage message;
  message.mutable_heartbeat()->set_sequence(++heartbeats_);
  v1::MemberStatus& status = *message.mutable_heartbeat()->add_running();
  status.set_job(start.job());
  status.set_generation(start.generation());
  status.set_phase(phase);
  status.set_step(step);
  Send(message);
}

void FakeWorker::SendEmptyHeartbeat() {
  v1::WorkerMessage message;
  message.mutable_heartbeat()->set_sequence(++heartbeats_);
  Send(message);
}

void FakeWorker::SendHeartbeatOfAnEnd(const v1::StartMember& start) {
  v1::WorkerMessage message;
  message.mutable_heartbeat()->set_sequence(++heartbeats_);
  v1::MemberExit& exit = *message.mutable_heartbeat()->add_ended();
  exit.set_job(start.job());
  exit.set_generation(start.generation());
  Send(message);
}

void FakeWorker::SendSteps(const v1::StartMember& start, int64_t first, int64_t last) {
  v1::WorkerMessage message;
  message.mutable_steps()->set_job(start.job());
  message.mutable_steps()->set_generation(start.generation());
  for (int64_t i = first; i <= last; ++i) {
    v1::StepReport& step = *message.mutable_steps()->add_steps();
    step.set_step(i);
    step.set_loss(5.0 / static_cast<double>(i));
    step.set_gradient_norm(2.5);
    step.set_learning_rate(0.125);
    step.set_tokens(64);
    step.set_skipped(i == 3);
    step.set_seconds(0.5);
    step.mutable_time()->set_compute(0.25);
    step.mutable_time()->set_exchange(0.25);
    const auto add = [](auto& metrics, const char* name, double value) {
      v1::StepMetric& metric = *metrics.Add();
      metric.set_name(name);
      metric.set_value(value);
    };
    add(*step.mutable_metrics(), "accuracy", 0.5);
    add(*step.mutable_metrics(), "bits_per_byte", 2.25);
    add(*step.mutable_metrics(), "perplexity", 4.5);
    add(*step.mutable_metrics(), "of_no_series", 1);
    add(*step.mutable_metrics(), "graph_density", 0.25);
    add(*step.mutable_metrics(), "graph_density", 0.25);
    step.mutable_metrics()->rbegin()->set_layer(2);
    if (i % 10 != 0) continue;
    step.set_validation_loss(6.0 / static_cast<double>(i));
    add(*step.mutable_validation_metrics(), "accuracy", 0.75);
  }
  Send(message);
}

void FakeWorker::SendExit(const v1::StartMember& start, int64_t id, v1::MemberExit::Outcome outcome,
                          std::optional<int32_t> rank) {
  v1::WorkerMessage message;
  v1::MemberExit& exit = *message.mutable_exit();
  exit.set_id(id);
  exit.set_job(start.job());
  exit.set_generation(start.generation());
  exit.set_outcome(outcome);
  exit.set_message("as the test wants it");
  if (rank.has_value()) exit.set_rank(*rank);
  if (outcome == v1::MemberExit::OUTCOME_SUCCEEDED) exit.set_weights_hash(std::string(64, 'a'));
  Send(message);
}

void FakeWorker::SendCheckpoint(const v1::StartMember& start, int64_t id, int64_t step) {
  v1::WorkerMessage message;
  v1::CheckpointPublished& published = *message.mutable_checkpoint();
  published.set_id(id);
  published.set_job(start.job());
  published.mutable_checkpoint()->set_step(step);
  published.mutable_checkpoint()->set_generation(start.generation());
  published.mutable_checkpoint()->set_path(absl::StrCat("/checkpoints/", step));
  published.mutable_checkpoint()->set_bytes(1000);
  published.mutable_checkpoint()->set_weights_hash(std::string(64, 'b'));
  Send(message);
}

void FakeWorker::SendLogs(const std::string& job, int64_t first,
                          const std::vector<std::string>& lines) {
  v1::WorkerMessage message;
  message.mutable_logs()->set_job(job);
  message.mutable_logs()->set_first(first);
  for (const std::string& text : lines) {
    v1::LogLine& line = *message.mutable_logs()->add_lines();
    line.mutable_time()->set_seconds(1000 + first + message.logs().lines_size());
    line.set_text(text);
  }
  Send(message);
}

std::optional<v1::CoordinatorMessage> FakeWorker::Await(v1::CoordinatorMessage::MessageCase kind) {
  const absl::Time deadline = absl::Now() + kPatience;
  const absl::MutexLock lock(&mutex_);
  const auto something = [this] { return !received_.empty() || ended_.has_value(); };
  while (mutex_.AwaitWithDeadline(absl::Condition(&something), deadline)) {
    while (!received_.empty()) {
      v1::CoordinatorMessage message = received_.front();
      received_.pop_front();
      if (message.message_case() == kind) return message;
    }
    if (ended_.has_value()) return std::nullopt;
  }
  return std::nullopt;
}

std::optional<v1::StartMember> FakeWorker::AwaitStart() {
  const auto message = Await(v1::CoordinatorMessage::kStart);
  if (!message.has_value()) return std::nullopt;
  return message->start();
}

absl::Status FakeWorker::AwaitEnd() {
  const absl::MutexLock lock(&mutex_);
  const auto ended = [this] { return ended_.has_value(); };
  mutex_.AwaitWithTimeout(absl::Condition(&ended), kPatience);
  return ended_.value_or(absl::DeadlineExceededError("the stream did not end"));
}

}  // namespace weft::coordinator::testing
