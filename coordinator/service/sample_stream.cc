#include "coordinator/service/sample_stream.h"

#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/rpc/field_violations.h"
#include "coordinator/service/resource_names.h"
#include "coordinator/service/wire.h"

namespace weft::coordinator {
namespace {

constexpr int32_t kDefaultTokens = 200;
constexpr int32_t kMaxTokens = 65536;
constexpr double kDefaultTemperature = 0.8;
// The worker gives it to weft-rank as an argument, and Linux takes none of 128 KiB or more.
constexpr size_t kMaxPromptBytes = 127 << 10;
constexpr size_t kMaxWaitingBytes = 4 << 20;

// Checks, and fills in the defaults.
absl::Status Resolve(v1::SampleTextRequest& request) {
  std::vector<FieldViolation> violations;
  if (request.tokens() == 0) request.set_tokens(kDefaultTokens);
  if (request.tokens() < 0 || request.tokens() > kMaxTokens) {
    violations.push_back(
        {"tokens", absl::StrCat(request.tokens(), " is out of range; allowed: 1 to ", kMaxTokens,
                                ", or 0 for ", kDefaultTokens)});
  }
  if (!request.has_temperature()) request.set_temperature(kDefaultTemperature);
  if (!std::isfinite(request.temperature()) || request.temperature() < 0) {
    violations.push_back({"temperature", "must be a number of at least 0"});
  }
  if (request.top_k() < 0) {
    violations.push_back({"top_k", "is negative; allowed: 0 for all, or a number of tokens"});
  }
  if (request.prompt().size() > kMaxPromptBytes) {
    violations.push_back({"prompt", absl::StrCat("is ", request.prompt().size(),
                                                 " bytes long; allowed: up to ", kMaxPromptBytes)});
  }
  return InvalidFields(violations);
}

// A connected worker, one without ranks if there is one. Empty: none.
WorkerName ChooseWorker(const ClusterState& state) {
  WorkerName busy;
  for (const auto& [name, worker] : state.workers) {
    if (worker.connection != WorkerConnection::kConnected) continue;
    if (worker.placed.empty()) return name;
    busy = name;
  }
  return busy;
}

}  // namespace

SampleStream::SampleStream(const ServiceContext& context, WorkerLinks& links,
                           v1::SampleTextRequest request)
    : LoopStream(context.loop, context.streams),
      context_(context),
      links_(links),
      request_(std::move(request)) {
  PostBegin();
}

void SampleStream::OnBegin() {
  const absl::Status status = Start();
  if (!status.ok()) End(status);
}

absl::Status SampleStream::Start() {
  WEFT_RETURN_IF_ERROR(Resolve(request_));
  WEFT_ASSIGN_OR_RETURN(const CheckpointName name,
                        ParseCheckpointResource("name", request_.name()));
  WEFT_ASSIGN_OR_RETURN(const Job* const job, context_.FindJob("name", JobResource(name.job.name)));
  const Checkpoint* checkpoint = nullptr;
  for (const Checkpoint& candidate : KeptCheckpoints(*job)) {
    if (!name.step.has_value() || candidate.step == *name.step) checkpoint = &candidate;
  }
  if (checkpoint == nullptr) {
    return absl::NotFoundError(name.step.has_value()
                                   ? absl::StrCat("there is no checkpoint ", request_.name())
                                   : absl::StrCat(request_.name(), " has no checkpoint yet"));
  }
  const WorkerName worker = ChooseWorker(context_.driver.state());
  if (!worker.empty()) {
    sample_ = links_.StartSample(worker, checkpoint->location, request_, this);
  }
  if (sample_ == 0) return absl::UnavailableError("no worker is connected to generate the text");
  return absl::OkStatus();
}

void SampleStream::OnChunk(const v1::SampleChunk& chunk) {
  if (chunk.done() || chunk.error_code() != 0) sample_ = 0;
  if (ended()) return;
  waiting_ += chunk.text();
  if (chunk.error_code() != 0) {
    result_ = absl::Status(static_cast<absl::StatusCode>(chunk.error_code()), chunk.error());
  } else if (chunk.done()) {
    result_ = absl::OkStatus();
  } else if (waiting_.size() > kMaxWaitingBytes) {
    return End(absl::ResourceExhaustedError("the client reads the text too slowly"));
  }
  Advance();
}

void SampleStream::OnLost(const absl::Status& why) {
  sample_ = 0;
  result_ = why;
  Advance();
}

void SampleStream::Advance() {
  if (ended() || writing()) return;
  if (!waiting_.empty()) {
    v1::SampleTextResponse response;
    response.set_text(std::exchange(waiting_, {}));
    return Write(std::move(response));
  }
  if (result_.has_value()) End(*result_);
}

void SampleStream::OnEnd() {
  if (sample_ != 0) links_.CancelSample(std::exchange(sample_, 0));
}

}  // namespace weft::coordinator
