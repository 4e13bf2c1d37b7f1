#include "worker/agent/link_keeper.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/log/log.h"
#include "common/rpc/grpc_channel.h"

namespace weft::worker {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(100);
constexpr absl::Duration kLongestPause = absl::Seconds(5);
constexpr absl::Duration kWelcomeTimeout = absl::Seconds(5);
// gRPC's own pauses between attempts to reach the host must not add to ours.
constexpr absl::Duration kChannelPause = absl::Milliseconds(500);
// The coordinator's wish is obeyed within these bounds.
constexpr absl::Duration kShortestInterval = absl::Milliseconds(10);
constexpr absl::Duration kLongestInterval = absl::Minutes(1);

}  // namespace

LinkKeeper::LinkKeeper(EventLoop& loop, Callbacks callbacks,
                       std::shared_ptr<grpc::ChannelCredentials> credentials)
    : loop_(loop),
      callbacks_(std::move(callbacks)),
      credentials_(std::move(credentials)),
      backoff_(kFirstPause, kLongestPause) {}

LinkKeeper::~LinkKeeper() = default;

void LinkKeeper::Open() { Connect(); }

void LinkKeeper::Finish() {
  closed_ = true;
  if (link_ != nullptr) link_->Finish();
}

void LinkKeeper::Close() {
  loop_.Post([this] {
    closed_ = true;
    link_.reset();
  });
  // What gRPC still has to say, it says to a loop that is there.
  const absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](int* open) { return *open == 0; }, &open_streams_));
}

void LinkKeeper::Connect() {
  if (closed_) return;
  const absl::StatusOr<std::string> address = callbacks_.address();
  if (!address.ok()) return ConnectLater(address.status());
  if (channel_ == nullptr || address_ != *address) {
    ChannelOptions options;
    options.max_reconnect_pause = kChannelPause;
    options.credentials = credentials_;
    channel_ = NewChannel(*address, options);
    address_ = *address;
  }
  const int64_t attempt = ++attempt_;
  {
    const absl::MutexLock lock(&mutex_);
    ++open_streams_;
  }
  CoordinatorLink::Callbacks callbacks;
  callbacks.on_message = [this, attempt](v1::CoordinatorMessage message) {
    loop_.Post([this, attempt, message = std::move(message)] { OnMessage(attempt, message); });
  };
  callbacks.on_end = [this, attempt](const absl::Status& status) {
    loop_.Post([this, attempt, status] { OnEnd(attempt, status); });
    const absl::MutexLock lock(&mutex_);
    --open_streams_;  // the last thing: Close waits for it
  };
  v1::WorkerMessage hello;
  *hello.mutable_hello() = callbacks_.hello();
  link_ = std::make_unique<CoordinatorLink>(channel_, hello, std::move(callbacks));
  loop_.RunAt(loop_.clock().Now() + kWelcomeTimeout, [this, attempt] {
    if (attempt == attempt_ && !up_ && link_ != nullptr) link_->Cancel();
  });
}

void LinkKeeper::ConnectLater(const absl::Status& why) {
  loop_.RunAt(loop_.clock().Now() + backoff_.Next(), [this] { Connect(); });
  const std::string code = absl::StatusCodeToString(why.code());
  if (!absl::IsUnavailable(why) || callbacks_.explain == nullptr) {
    return Complain(code, std::string(why.message()));
  }
  const auto done = [this, code, why](const std::string& reason) {
    if (up_ || closed_) return;
    if (reason.empty()) return Complain(code, std::string(why.message()));
    Complain(reason, absl::StrCat("no connection can be made: ", reason));
  };
  callbacks_.explain(address_, done);
}

// One line for a change, not one for each attempt: `trouble` is what has not changed.
void LinkKeeper::Complain(const std::string& trouble, const std::string& why) {
  if (std::exchange(last_trouble_, trouble) == trouble) return;
  LogWarning("link", "no connection to the coordinator; trying on",
             {{"address", address_}, {"why", why}});
}

void LinkKeeper::OnMessage(int64_t attempt, const v1::CoordinatorMessage& message) {
  if (attempt != attempt_ || link_ == nullptr) return;
  if (message.has_welcome()) return OnWelcome(message.welcome());
  if (up_) callbacks_.on_message(message);
}

void LinkKeeper::OnWelcome(const v1::Welcome& welcome) {
  if (up_.exchange(true)) return;
  backoff_.Reset();
  last_trouble_.clear();
  heartbeat_interval_ = std::clamp(absl::Milliseconds(welcome.heartbeat_milliseconds()),
                                   kShortestInterval, kLongestInterval);
  LogInfo("link", "connected to the coordinator", {{"address", address_}});
  callbacks_.on_up();
  BeatAgain();
}

void LinkKeeper::OnEnd(int64_t attempt, const absl::Status& status) {
  if (attempt != attempt_ || link_ == nullptr) return;
  link_.reset();
  const bool was_up = up_.exchange(false);
  if (closed_) return;
  if (was_up) {
    callbacks_.on_down();
  } else if (absl::IsFailedPrecondition(status)) {
    closed_ = true;
    return callbacks_.on_refused(status);
  }
  ConnectLater(status.ok() ? absl::UnavailableError("the coordinator closed the connection")
                           : status);
}

void LinkKeeper::Send(v1::WorkerMessage message) {
  if (up_ && link_ != nullptr) link_->Send(std::move(message));
}

int64_t LinkKeeper::queued_bytes() const { return link_ == nullptr ? 0 : link_->queued_bytes(); }

void LinkKeeper::SendHeartbeat() {
  if (!up_) return;
  v1::WorkerMessage message;
  *message.mutable_heartbeat() = callbacks_.heartbeat();
  message.mutable_heartbeat()->set_sequence(++heartbeat_sequence_);
  Send(std::move(message));
  last_heartbeat_ = loop_.clock().Now();
}

void LinkKeeper::BeatAgain() {
  if (!up_) return;
  SendHeartbeat();
  loop_.RunAt(loop_.clock().Now() + heartbeat_interval_, [this, attempt = attempt_] {
    if (attempt == attempt_) BeatAgain();
  });
}

}  // namespace weft::worker
