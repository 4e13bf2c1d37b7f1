#include "coordinator/service/checkpoint_service.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "coordinator/service/page.h"
#include "coordinator/service/reply.h"
#include "coordinator/service/resource_names.h"
#include "coordinator/service/sample_stream.h"
#include "coordinator/service/wire.h"

namespace weft::coordinator {
namespace {

struct Entry {
  const Checkpoint* checkpoint;
  const Job* job;

  // Later entries of a list are smaller. Sorts texts as it sorts entries, for page tokens.
  [[nodiscard]] std::string Key() const {
    return absl::StrCat(absl::Dec(absl::ToUnixMicros(checkpoint->published), absl::kZeroPad20), "/",
                        absl::Dec(job->id.value(), absl::kZeroPad20), "/",
                        absl::Dec(checkpoint->step.value(), absl::kZeroPad20));
  }
};

}  // namespace

grpc::ServerUnaryReactor* CheckpointService::ListCheckpoints(
    grpc::CallbackServerContext* call, const v1::ListCheckpointsRequest* request,
    v1::ListCheckpointsResponse* response) {
  return AnswerOnLoop(context_.loop, call,
                      [this, request, response] { return ListPage(*request, response); });
}

absl::Status CheckpointService::ListPage(const v1::ListCheckpointsRequest& request,
                                         v1::ListCheckpointsResponse* response) {
  const std::string arguments = absl::StrCat("checkpoints ", request.parent());
  WEFT_ASSIGN_OR_RETURN(const Page page,
                        ParsePage(request.page_size(), request.page_token(), arguments));
  std::vector<std::pair<std::string, Entry>> entries;
  const auto add = [&](const Job& job) {
    for (const Checkpoint& checkpoint : KeptCheckpoints(job)) {
      const Entry entry = {&checkpoint, &job};
      std::string key = entry.Key();
      if (page.after.empty() || key < page.after) entries.emplace_back(std::move(key), entry);
    }
  };
  if (request.parent() == "jobs/-") {
    for (const auto& [id, job] : context_.driver.state().jobs) add(job);
  } else {
    WEFT_ASSIGN_OR_RETURN(const Job* const job, context_.FindJob("parent", request.parent()));
    add(*job);
  }
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.first > b.first; });
  const size_t count = std::min(entries.size(), static_cast<size_t>(page.size));
  for (size_t i = 0; i < count; ++i) {
    const Entry& entry = entries[i].second;
    *response->add_checkpoints() = ToWire(*entry.checkpoint, entry.job->name);
  }
  if (entries.size() > count) {
    response->set_next_page_token(MakePageToken(entries[count - 1].first, arguments));
  }
  return absl::OkStatus();
}

grpc::ServerWriteReactor<v1::SampleTextResponse>* CheckpointService::SampleText(
    grpc::CallbackServerContext* /*call*/, const v1::SampleTextRequest* request) {
  return new SampleStream(context_, links_, *request);
}

}  // namespace weft::coordinator
