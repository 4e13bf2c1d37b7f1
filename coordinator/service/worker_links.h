// The connected agents, by name: where commands and text samples find their worker.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "coordinator/driver.h"
#include "weft/v1/checkpoint.pb.h"
#include "weft/v1/worker_link.pb.h"

namespace weft::coordinator {

class LinkStream;

// Loop thread.
class WorkerLinks final : public WorkerLink {
 public:
  // Gets every piece of a sample; the last one is done or carries an error.
  class SampleSink {
   public:
    virtual ~SampleSink() = default;
    virtual void OnChunk(const v1::SampleChunk& chunk) = 0;
    virtual void OnLost(const absl::Status& why) = 0;  // no chunk will follow
  };

  // A command for an agent that is not connected is dropped: it will be repeated.
  void Send(const Command& command) override;

  // The newest connection of an agent counts; an older one of the same incarnation is ended.
  void Add(LinkStream* stream);
  // False: this was not the newest connection of its incarnation, its end means nothing.
  bool Remove(LinkStream* stream);

  // Asks `worker` for text. 0 when it is not connected. The sink must be cancelled before it dies.
  int64_t StartSample(const WorkerName& worker, const std::string& checkpoint_path,
                      const v1::SampleTextRequest& request, SampleSink* sink);
  void CancelSample(int64_t id);
  void OnSampleChunk(LinkStream* from, const v1::SampleChunk& chunk);

 private:
  struct Sample {
    LinkStream* stream = nullptr;
    SampleSink* sink = nullptr;
  };

  [[nodiscard]] LinkStream* Find(const WorkerName& worker) const;

  std::map<std::pair<WorkerName, Incarnation>, LinkStream*> streams_;
  std::map<int64_t, Sample> samples_;
  int64_t last_sample_ = 0;
};

}  // namespace weft::coordinator
