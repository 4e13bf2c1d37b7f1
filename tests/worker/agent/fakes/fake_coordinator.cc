#include "tests/worker/agent/fakes/fake_coordinator.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <chrono>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/base/check.h"

namespace weft::worker {

FakeCoordinator::FakeCoordinator(const std::string& address) : address_(address) {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  WEFT_CHECK(server_ != nullptr);
  if (absl::EndsWith(address, ":0")) {
    address_ = absl::StrCat(absl::StripSuffix(address, "0"), port);
  }
}

FakeCoordinator::~FakeCoordinator() {
  Disconnect(/*keep_away=*/true);
  server_->Shutdown(std::chrono::system_clock::now());
}

void FakeCoordinator::set_acknowledges(bool on) {
  const absl::MutexLock lock(&mutex_);
  acknowledges_ = on;
}

void FakeCoordinator::set_stores_logs(bool on) {
  const absl::MutexLock lock(&mutex_);
  stores_logs_ = on;
}

void FakeCoordinator::set_stores_steps(bool on) {
  const absl::MutexLock lock(&mutex_);
  stores_steps_ = on;
}

void FakeCoordinator::set_refusal(const std::string& message) {
  const absl::MutexLock lock(&mutex_);
  refusal_ = message;
}

void FakeCoordinator::Send(const std::string& worker, const v1::CoordinatorMessage& message) {
  const absl::MutexLock lock(&mutex_);
  const auto found = connections_.find(worker);
  if (found != connections_.end()) found->second.stream->Write(message);
}

void FakeCoordinator::Disconnect(bool keep_away) {
  const absl::MutexLock lock(&mutex_);
  keeps_away_ = keep_away;
  for (auto& [worker, connection] : connections_) connection.context->TryCancel();
}

bool FakeCoordinator::Await(const std::string& worker,
                            const std::function<bool(const Messages&)>& done) {
  const auto condition = [this, &worker, &done]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return done(messages_[worker]);
  };
  const absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&condition), kPatience);
}

FakeCoordinator::Messages FakeCoordinator::messages(const std::string& worker) const {
  const absl::MutexLock lock(&mutex_);
  const auto found = messages_.find(worker);
  return found == messages_.end() ? Messages() : found->second;
}

std::vector<std::string> FakeCoordinator::log(const std::string& job) const {
  const absl::MutexLock lock(&mutex_);
  std::vector<std::string> lines;
  const auto found = logs_.find(job);
  if (found == logs_.end()) return lines;
  for (const auto& [number, line] : found->second) lines.push_back(line);
  return lines;
}

bool FakeCoordinator::AwaitLog(const std::string& job, size_t lines) {
  const auto condition = [this, &job, lines]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return logs_[job].size() >= lines;
  };
  const absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&condition), kPatience);
}

void FakeCoordinator::Clear() {
  const absl::MutexLock lock(&mutex_);
  messages_.clear();
}

grpc::Status FakeCoordinator::Connect(grpc::ServerContext* context, Stream* stream) {
  v1::WorkerMessage message;
  if (!stream->Read(&message) || !message.has_hello()) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "the first message must be Hello"};
  }
  const std::string worker = message.hello().worker();
  {
    const absl::MutexLock lock(&mutex_);
    if (!refusal_.empty()) return {grpc::StatusCode::FAILED_PRECONDITION, refusal_};
    if (keeps_away_) return {grpc::StatusCode::UNAVAILABLE, "away"};
    messages_[worker].push_back(message);
    connections_[worker] = Connection{context, stream};
    v1::CoordinatorMessage welcome;
    welcome.mutable_welcome()->set_heartbeat_milliseconds(20);
    stream->Write(welcome);
  }
  while (stream->Read(&message)) Take(worker, message, *stream);
  const absl::MutexLock lock(&mutex_);
  if (connections_[worker].context == context) connections_.erase(worker);
  return grpc::Status::OK;
}

void FakeCoordinator::Take(const std::string& worker, const v1::WorkerMessage& message,
                           Stream& stream) {
  const absl::MutexLock lock(&mutex_);
  messages_[worker].push_back(message);
  v1::CoordinatorMessage answer;
  if (acknowledges_ && message.has_exit()) {
    answer.mutable_acknowledged()->add_ids(message.exit().id());
  } else if (acknowledges_ && message.has_checkpoint()) {
    answer.mutable_acknowledged()->add_ids(message.checkpoint().id());
  } else if (stores_logs_ && message.has_logs()) {
    const v1::LogBatch& batch = message.logs();
    for (int i = 0; i < batch.lines_size(); ++i) {
      logs_[batch.job()][batch.first() + i] = batch.lines(i).text();
    }
    answer.mutable_logs_stored()->set_job(batch.job());
    answer.mutable_logs_stored()->set_next(batch.first() + batch.lines_size());
  } else if (stores_steps_ && message.has_steps()) {
    const v1::StepBatch& batch = message.steps();
    answer.mutable_steps_stored()->set_job(batch.job());
    answer.mutable_steps_stored()->set_generation(batch.generation());
    answer.mutable_steps_stored()->set_first(batch.steps().begin()->step());
    answer.mutable_steps_stored()->set_last(batch.steps().rbegin()->step());
  } else {
    return;
  }
  stream.Write(answer);
}

bool HasExit(const FakeCoordinator::Messages& messages, const std::string& job, int64_t generation,
             v1::MemberExit::Outcome outcome) {
  return std::any_of(messages.begin(), messages.end(), [&](const v1::WorkerMessage& message) {
    return message.exit().job() == job && message.exit().generation() == generation &&
           message.exit().outcome() == outcome;
  });
}

v1::MemberExit ExitOf(const FakeCoordinator::Messages& messages, const std::string& job) {
  for (const v1::WorkerMessage& message : messages) {
    if (message.exit().job() == job) return message.exit();
  }
  return {};
}

bool ShowsPhase(const FakeCoordinator::Messages& messages, const std::string& job,
                v1::MemberStatus::Phase phase) {
  for (auto message = messages.rbegin(); message != messages.rend(); ++message) {
    if (!message->has_heartbeat()) continue;
    const auto& running = message->heartbeat().running();
    return std::any_of(running.begin(), running.end(), [&](const v1::MemberStatus& status) {
      return status.job() == job && status.phase() == phase;
    });
  }
  return false;
}

std::vector<int64_t> StepsOf(const FakeCoordinator::Messages& messages, const std::string& job) {
  std::vector<int64_t> steps;
  for (const v1::WorkerMessage& message : messages) {
    if (message.steps().job() != job) continue;
    for (const v1::StepReport& step : message.steps().steps()) steps.push_back(step.step());
  }
  return steps;
}

}  // namespace weft::worker
