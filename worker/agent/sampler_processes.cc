#include "worker/agent/sampler_processes.h"

#include <csignal>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/exit_codes.h"
#include "common/base/utf8.h"

namespace weft::worker {
namespace {

constexpr int kDefaultTokens = 200;
constexpr size_t kMaxErrorBytes = 2000;

std::vector<std::string> Arguments(const v1::RunSample& order, int threads) {
  const v1::SampleTextRequest& request = order.request();
  std::vector<std::string> arguments = {
      "weft-rank",
      "sample",
      absl::StrCat("--checkpoint=", order.checkpoint_path()),
      absl::StrCat("--tokens=", request.tokens() == 0 ? kDefaultTokens : request.tokens()),
      absl::StrCat("--top_k=", request.top_k()),
      absl::StrCat("--seed=", request.seed()),
      absl::StrCat("--threads=", threads)};
  if (!request.prompt().empty()) arguments.push_back(absl::StrCat("--prompt=", request.prompt()));
  if (request.has_temperature()) {
    arguments.push_back(absl::StrCat("--temperature=", request.temperature()));
  }
  return arguments;
}

// The reverse of ExitCodeOf, as far as it can be known.
absl::StatusCode CodeOf(ExitStatus status) {
  if (status.signal != 0) return absl::StatusCode::kInternal;
  switch (status.code) {
    case kExitUsage:
      return absl::StatusCode::kInvalidArgument;
    case kExitNotFound:
      return absl::StatusCode::kNotFound;
    case kExitDenied:
      return absl::StatusCode::kPermissionDenied;
    case kExitConflict:
      return absl::StatusCode::kFailedPrecondition;
    case kExitUnavailable:
      return absl::StatusCode::kUnavailable;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

SamplerProcesses::SamplerProcesses(Options options, EventLoop& loop, ProcessSupervisor& supervisor,
                                   std::function<void(v1::SampleChunk)> send)
    : options_(std::move(options)), loop_(loop), supervisor_(supervisor), send_(std::move(send)) {}

void SamplerProcesses::Run(const v1::RunSample& order) {
  const int64_t id = order.id();
  if (samples_.count(id) > 0) return;
  if (static_cast<int>(samples_.size()) >= options_.limit) {
    return Fail(id, absl::StatusCode::kResourceExhausted,
                absl::StrCat("this worker generates ", options_.limit, " texts already"));
  }
  if (order.request().prompt().find('\0') != std::string::npos) {
    return Fail(id, absl::StatusCode::kInvalidArgument, "the prompt has a zero byte");
  }
  ChildOptions child;
  child.program = options_.rank_program;
  child.arguments = Arguments(order, options_.threads);
  child.environment = options_.environment;
  ChildCallbacks callbacks;
  callbacks.on_output = [this, id](OutputStream stream, absl::string_view bytes) {
    loop_.Post([this, id, stream, copy = std::string(bytes)] { OnOutput(id, stream, copy); });
  };
  callbacks.on_exit = [this, id](ExitStatus status) {
    loop_.Post([this, id, status] { OnExit(id, status); });
  };
  const absl::StatusOr<ChildId> spawned = supervisor_.Spawn(child, std::move(callbacks));
  if (!spawned.ok()) {
    return Fail(id, spawned.status().code(), std::string(spawned.status().message()));
  }
  samples_[id].child = *spawned;
}

void SamplerProcesses::OnOutput(int64_t id, OutputStream stream, const std::string& bytes) {
  const auto found = samples_.find(id);
  if (found == samples_.end()) return;
  if (stream == OutputStream::kStderr) {
    std::string& errors = found->second.errors;
    errors += bytes;
    if (errors.size() > kMaxErrorBytes) errors.erase(0, errors.size() - kMaxErrorBytes);
    return;
  }
  v1::SampleChunk chunk;
  chunk.set_id(id);
  chunk.set_text(bytes);
  send_(std::move(chunk));
}

void SamplerProcesses::OnExit(int64_t id, ExitStatus status) {
  const auto found = samples_.find(id);
  if (found == samples_.end()) return;
  const Sample sample = std::move(found->second);
  samples_.erase(found);
  if (sample.cancelled) return Fail(id, absl::StatusCode::kCancelled, "cancelled");
  if (!status.ok()) {
    const absl::string_view errors = absl::StripAsciiWhitespace(sample.errors);
    return Fail(id, CodeOf(status),
                errors.empty() ? absl::StrCat("weft-rank ", status.ToString())
                               : ToValidUtf8(absl::StripPrefix(errors, "weft-rank: ")));
  }
  v1::SampleChunk chunk;
  chunk.set_id(id);
  chunk.set_done(true);
  send_(std::move(chunk));
}

void SamplerProcesses::Fail(int64_t id, absl::StatusCode code, const std::string& message) {
  v1::SampleChunk chunk;
  chunk.set_id(id);
  chunk.set_done(true);
  chunk.set_error_code(static_cast<int32_t>(code));
  chunk.set_error(message);
  send_(std::move(chunk));
}

void SamplerProcesses::Cancel(int64_t id) {
  const auto found = samples_.find(id);
  if (found == samples_.end()) return;
  found->second.cancelled = true;
  supervisor_.Signal(found->second.child, SIGKILL);
}

void SamplerProcesses::CancelAll() {
  for (auto& [id, sample] : samples_) {
    sample.cancelled = true;
    supervisor_.Signal(sample.child, SIGKILL);
  }
}

}  // namespace weft::worker
