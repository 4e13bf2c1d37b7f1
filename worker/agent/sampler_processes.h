// SamplerProcesses: runs `weft-rank sample` for the coordinator and passes its text on as it comes.
// Loop thread only, except where noted.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/process/process_supervisor.h"
#include "common/time/event_loop.h"
#include "weft/v1/worker_link.pb.h"

namespace weft::worker {

class SamplerProcesses {
 public:
  struct Options {
    std::string rank_program;
    std::vector<std::string> environment;
    int threads = 1;
    int limit = 4;  // at once; more are refused
  };

  // `send` is called on the loop.
  SamplerProcesses(Options options, EventLoop& loop, ProcessSupervisor& supervisor,
                   std::function<void(v1::SampleChunk)> send);

  // Ends with one chunk that is `done`; an id that runs already is ignored.
  void Run(const v1::RunSample& order);
  // Kills it: the last chunk says CANCELLED. An unknown id is ignored.
  void Cancel(int64_t id);
  // Kills all, when nobody is there to read.
  void CancelAll();

 private:
  struct Sample {
    ChildId child;
    bool cancelled = false;
    std::string errors;  // the end of what it wrote to standard error
  };

  void OnOutput(int64_t id, OutputStream stream, const std::string& bytes);
  void OnExit(int64_t id, ExitStatus status);
  void Fail(int64_t id, absl::StatusCode code, const std::string& message);

  const Options options_;
  EventLoop& loop_;
  ProcessSupervisor& supervisor_;
  const std::function<void(v1::SampleChunk)> send_;
  std::map<int64_t, Sample> samples_;
};

}  // namespace weft::worker
