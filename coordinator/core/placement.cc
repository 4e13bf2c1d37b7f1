#include "coordinator/core/placement.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace weft::coordinator {
namespace {

int32_t SlotsOn(const Job& job, const Worker& worker) {
  return job.request.slots_per_worker == 0 ? worker.offer.slots : job.request.slots_per_worker;
}

// From so many failures without a checkpoint between, doubtful workers are left out.
constexpr int32_t kFailuresUntilAvoided = 2;

// Whether the job's last generation failed because of its member on this worker.
bool FailedOn(const Job& job, const Worker& worker) {
  const GangMember* const member = job.FindMember(worker.name);
  return member != nullptr && (member->outcome == MemberOutcome::kRankFailed ||
                               member->outcome == MemberOutcome::kHostLost);
}

// The class that can give most: free workers first, then existing ones, then the first by name.
std::string BestClass(const Supply& supply, const Reserved& reserved) {
  std::string best;
  std::pair<size_t, int32_t> best_size{0, 0};
  for (const auto& [name, offered] : supply) {
    if (reserved.classes.contains(name) || reserved.kinds.contains(offered.device_kind)) continue;
    const std::pair<size_t, int32_t> size{offered.free.size(), offered.existing};
    if (size > best_size) {
      best_size = size;
      best = name;
    }
  }
  return best;
}

}  // namespace

std::string BoundDeviceClass(const Job& job) {
  if (!job.request.fixed_device_class || job.checkpoints.empty()) return "";
  return job.checkpoints.back().device_class;
}

Supply SupplyFor(const ClusterState& state, const Job& job) {
  Supply supply;
  const std::string bound = BoundDeviceClass(job);
  for (const auto& [name, worker] : state.workers) {
    if (worker.connection != WorkerConnection::kConnected) continue;
    if (!job.request.Takes(worker.offer.device_kind)) continue;
    if (!bound.empty() && worker.offer.device_class != bound) continue;
    const int32_t slots = SlotsOn(job, worker);
    if (slots > worker.offer.slots) continue;
    ClassSupply& offered = supply[worker.offer.device_class];
    offered.device_kind = worker.offer.device_kind;
    if (worker.draining) {
      ++offered.draining;
      continue;
    }
    ++offered.existing;
    // A worker that still has a rank of this very job left over cannot take the next generation.
    if (worker.FreeSlots() < slots) continue;
    offered.free.push_back(&worker);
    if (FailedOn(job, worker)) ++offered.doubtful;
  }
  for (auto& [name, offered] : supply) {
    std::stable_sort(offered.free.begin(), offered.free.end(),
                     [&job](const Worker* a, const Worker* b) {
                       return std::pair(FailedOn(job, *a), a->FreeSlots()) <
                              std::pair(FailedOn(job, *b), b->FreeSlots());
                     });
  }
  return supply;
}

int32_t QueueAllowance(const ClusterState& state, const Job& job) {
  const Queue* queue = state.FindQueue(job.request.queue);
  if (queue == nullptr || queue->settings.max_workers == 0) {
    return std::numeric_limits<int32_t>::max();
  }
  return std::max(queue->settings.max_workers - (queue->held_workers - job.LiveMembers()), 0);
}

bool IsAboveQueueLimit(const ClusterState& state, const Job& job) {
  const Queue* queue = state.FindQueue(job.request.queue);
  return queue != nullptr && queue->settings.max_workers > 0 &&
         queue->settings.max_workers < job.request.min_workers;
}

GangChoice ChooseGang(const Job& job, const Supply& supply, const Reserved& reserved,
                      int32_t allowance, bool gathering) {
  GangChoice choice;
  const int32_t least = job.request.min_workers;
  const bool could = std::any_of(supply.begin(), supply.end(),
                                 [&](const auto& entry) { return entry.second.existing >= least; });
  if (!could) return choice;
  choice.fit = Fit::kBusy;
  if (job.LiveMembers() > 0) return choice;
  choice.device_class = BestClass(supply, reserved);
  const auto best = supply.find(choice.device_class);
  if (best == supply.end()) return choice;
  const std::vector<const Worker*>& free = best->second.free;
  const int32_t most = std::min(job.request.max_workers, allowance);
  auto usable = static_cast<int32_t>(free.size());
  const int32_t trusted = usable - best->second.doubtful;
  if (job.counters.failures_without_progress >= kFailuresUntilAvoided && trusted >= least) {
    usable = trusted;
  }
  const int32_t size = std::min(usable, most);
  if (size < least) return choice;
  if (gathering && size < most) {
    choice.fit = Fit::kGathering;
    return choice;
  }
  choice.fit = Fit::kPlaced;
  std::vector<const Worker*> chosen(free.begin(), free.begin() + size);
  std::sort(chosen.begin(), chosen.end(),
            [](const Worker* a, const Worker* b) { return a->name < b->name; });
  int32_t rank = 0;
  for (const Worker* worker : chosen) {
    GangMember member;
    member.worker = worker->name;
    member.incarnation = worker->incarnation;
    member.address = worker->offer.address;
    member.first_rank = rank;
    member.slots = SlotsOn(job, *worker);
    rank += member.slots;
    choice.members.push_back(std::move(member));
  }
  return choice;
}

bool QueueWalk::Advance(Head& head) const {
  const auto lane = state_.lanes.find(head.key);
  if (lane == state_.lanes.end()) return false;
  const auto next =
      head.taken ? lane->second.upper_bound(head.at) : lane->second.lower_bound(head.at);
  if (next == lane->second.end()) return false;
  head.at = *next;
  head.taken = false;
  return true;
}

const Job* QueueWalk::Next() {
  std::erase_if(heads_, [this](Head& head) { return !Advance(head); });
  if (heads_.empty()) return nullptr;
  const auto first = std::min_element(heads_.begin(), heads_.end(),
                                      [](const Head& a, const Head& b) { return a.at < b.at; });
  first->taken = true;
  last_ = static_cast<size_t>(first - heads_.begin());
  return state_.FindJob(first->at.second);
}

void QueueWalk::Tell(Visit visit) {
  if (visit == Visit::kNext) return;
  if (visit == Visit::kCloseAll) return heads_.clear();
  const LaneKey key = heads_[last_].key;
  std::erase_if(heads_, [&](const Head& head) {
    return visit == Visit::kCloseKind ? head.key.device_kind == key.device_kind : head.key == key;
  });
}

}  // namespace weft::coordinator
