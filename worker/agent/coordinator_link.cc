#include "worker/agent/coordinator_link.h"

#include <deque>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/rpc/grpc_status.h"
#include "weft/v1/worker_link.grpc.pb.h"

namespace weft::worker {

// gRPC's rules: one read and one write at a time; nothing may be started after the last operation
// ended, unless a hold is kept. The hold is given up under the lock when reading ends, and Send
// starts no write after that. The object keeps itself alive until OnDone.
class CoordinatorLink::Stream final
    : public grpc::ClientBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage> {
 public:
  Stream(const std::shared_ptr<grpc::Channel>& channel, Callbacks callbacks)
      : stub_(v1::WorkerLinkService::NewStub(channel)), callbacks_(std::move(callbacks)) {}

  void Start(const std::shared_ptr<Stream>& self, const v1::WorkerMessage& hello) {
    self_ = self;
    stub_->async()->Connect(&context_, this);
    AddHold();
    StartRead(&incoming_);
    Send(hello);
    StartCall();
  }

  void Send(v1::WorkerMessage message) {
    const absl::MutexLock lock(&mutex_);
    if (ended_ || finishing_) return;
    queued_bytes_ += static_cast<int64_t>(message.ByteSizeLong());
    queue_.push_back(std::move(message));
    if (queue_.size() == 1) StartWrite(&queue_.front());
  }

  int64_t queued_bytes() const {
    const absl::MutexLock lock(&mutex_);
    return queued_bytes_;
  }

  void Finish() {
    const absl::MutexLock lock(&mutex_);
    if (ended_ || finishing_) return;
    finishing_ = true;
    if (queue_.empty()) StartWritesDone();
  }

  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      const absl::MutexLock lock(&mutex_);
      ended_ = true;
      RemoveHold();
      return;
    }
    callbacks_.on_message(std::move(incoming_));
    incoming_.Clear();
    StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    const absl::MutexLock lock(&mutex_);
    queued_bytes_ -= static_cast<int64_t>(queue_.front().ByteSizeLong());
    queue_.pop_front();
    if (!ok || ended_) {  // the read fails too and ends the stream
      ended_ = true;
      return;
    }
    if (!queue_.empty()) {
      StartWrite(&queue_.front());
    } else if (finishing_) {
      StartWritesDone();
    }
  }

  void OnDone(const grpc::Status& status) override {
    // The last reference may be ours: nothing of *this may be used after the move.
    const std::shared_ptr<Stream> self = std::move(self_);
    callbacks_.on_end(FromGrpc(status));
  }

 private:
  const std::unique_ptr<v1::WorkerLinkService::Stub> stub_;
  const Callbacks callbacks_;
  grpc::ClientContext context_;
  v1::CoordinatorMessage incoming_;
  std::shared_ptr<Stream> self_;

  mutable absl::Mutex mutex_;
  std::deque<v1::WorkerMessage> queue_ ABSL_GUARDED_BY(mutex_);  // the front one is being written
  int64_t queued_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool finishing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

CoordinatorLink::CoordinatorLink(const std::shared_ptr<grpc::Channel>& channel,
                                 const v1::WorkerMessage& hello, Callbacks callbacks)
    : stream_(std::make_shared<Stream>(channel, std::move(callbacks))) {
  stream_->Start(stream_, hello);
}

CoordinatorLink::~CoordinatorLink() { Cancel(); }

void CoordinatorLink::Send(v1::WorkerMessage message) { stream_->Send(std::move(message)); }

int64_t CoordinatorLink::queued_bytes() const { return stream_->queued_bytes(); }

void CoordinatorLink::Finish() { stream_->Finish(); }

void CoordinatorLink::Cancel() { stream_->Cancel(); }

}  // namespace weft::worker
