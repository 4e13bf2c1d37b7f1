#include "coordinator/service/worker_links.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/service/link_stream.h"

namespace weft::coordinator {

void WorkerLinks::Send(const Command& command) {
  const auto found = streams_.find({WorkerOf(command), IncarnationOf(command)});
  if (found != streams_.end()) found->second->SendCommand(command);
}

void WorkerLinks::Add(LinkStream* stream) {
  LinkStream*& place = streams_[{stream->worker(), stream->incarnation()}];
  LinkStream* const older = std::exchange(place, stream);
  if (older != nullptr && older != stream) {
    older->End(absl::AbortedError("the same agent has connected again"));
  }
}

bool WorkerLinks::Remove(LinkStream* stream) {
  std::vector<Sample> lost;
  std::erase_if(samples_, [&](const auto& entry) {
    if (entry.second.stream == stream) lost.push_back(entry.second);
    return entry.second.stream == stream;
  });
  for (const Sample& sample : lost) {
    sample.sink->OnLost(absl::UnavailableError(
        absl::StrCat("the connection to worker ", stream->worker(), " is lost")));
  }
  const auto found = streams_.find({stream->worker(), stream->incarnation()});
  if (found == streams_.end() || found->second != stream) return false;
  streams_.erase(found);
  return true;
}

LinkStream* WorkerLinks::Find(const WorkerName& worker) const {
  for (auto it = streams_.lower_bound({worker, Incarnation()});
       it != streams_.end() && it->first.first == worker; ++it) {
    if (it->second->joined()) return it->second;
  }
  return nullptr;
}

int64_t WorkerLinks::StartSample(const WorkerName& worker, const std::string& checkpoint_path,
                                 const v1::SampleTextRequest& request, SampleSink* sink) {
  LinkStream* const stream = Find(worker);
  if (stream == nullptr) return 0;
  const int64_t id = ++last_sample_;
  samples_[id] = {stream, sink};
  v1::CoordinatorMessage message;
  message.mutable_run_sample()->set_id(id);
  message.mutable_run_sample()->set_checkpoint_path(checkpoint_path);
  *message.mutable_run_sample()->mutable_request() = request;
  stream->Send(std::move(message));
  return id;
}

void WorkerLinks::CancelSample(int64_t id) {
  const auto found = samples_.find(id);
  if (found == samples_.end()) return;
  v1::CoordinatorMessage message;
  message.mutable_cancel_sample()->set_id(id);
  found->second.stream->Send(std::move(message));
  samples_.erase(found);
}

void WorkerLinks::OnSampleChunk(LinkStream* from, const v1::SampleChunk& chunk) {
  const auto found = samples_.find(chunk.id());
  if (found == samples_.end() || found->second.stream != from) return;  // cancelled meanwhile
  SampleSink* const sink = found->second.sink;
  if (chunk.done() || chunk.error_code() != 0) samples_.erase(found);
  sink->OnChunk(chunk);
}

}  // namespace weft::coordinator
