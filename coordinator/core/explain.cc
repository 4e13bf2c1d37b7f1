#include "coordinator/core/explain.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/core/placement.h"

namespace weft::coordinator {
namespace {

constexpr size_t kHoldersShown = 10;

std::string Workers(int32_t count) {
  return absl::StrCat(count, count == 1 ? " worker" : " workers");
}

// The jobs that hold what `counts` says yes to, most workers first.
template <class Counts>
std::vector<Holder> HoldersWhere(const ClusterState& state, Counts counts) {
  std::map<JobId, int32_t> held;
  for (const auto& [name, worker] : state.workers) {
    for (const auto& [id, placement] : worker.placed) {
      const Job* job = state.FindJob(id);
      if (job != nullptr && counts(worker, *job)) ++held[id];
    }
  }
  std::vector<Holder> holders;
  holders.reserve(held.size());
  for (const auto& [id, workers] : held) {
    holders.push_back(Holder{id, state.FindJob(id)->name, workers});
  }
  std::stable_sort(holders.begin(), holders.end(),
                   [](const Holder& a, const Holder& b) { return a.workers > b.workers; });
  if (holders.size() > kHoldersShown) holders.resize(kHoldersShown);
  return holders;
}

std::string HoldersText(const std::vector<Holder>& holders) {
  if (holders.empty()) return "";
  std::string text = "; held by ";
  for (size_t i = 0; i < holders.size() && i < 3; ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ", ", holders[i].job_name, " (",
                    Workers(holders[i].workers), ")");
  }
  if (holders.size() > 3) absl::StrAppend(&text, " and ", holders.size() - 3, " more");
  return text;
}

// Fills in one answer, rule by rule, in the order in which the scheduler asks.
class Explainer {
 public:
  Explainer(const ClusterState& state, const Job& job, absl::Time now)
      : state_(state), job_(job), now_(now) {
    answer_.device_kind = job.request.device_kind;
    answer_.device_class = BoundDeviceClass(job);
    answer_.queue = job.request.queue;
    answer_.needed = job.request.min_workers;
  }

  Explanation Run() {
    if (job_.state != JobState::kQueued) {
      answer_.summary = absl::StrCat(ToString(job_.state), ": ", job_.reason.text);
      return std::move(answer_);
    }
    CountAhead();
    if (!(Stopping() || BackingOff() || AtQueueLimit())) Compete();
    return std::move(answer_);
  }

 private:
  void CountAhead() {
    const std::pair<int64_t, JobId> place{-int64_t{job_.request.priority}, job_.id};
    std::optional<std::pair<int64_t, JobId>> first;
    for (const auto& [key, lane] : state_.lanes) {
      if (!job_.request.Takes(key.device_kind) && key.device_kind != kAnyDeviceKind) continue;
      const auto end = lane.lower_bound(place);
      answer_.ahead += static_cast<int32_t>(std::distance(lane.begin(), end));
      if (end != lane.begin() && (!first.has_value() || *lane.begin() < *first)) {
        first = *lane.begin();
      }
    }
    if (first.has_value()) first_ahead_ = first->second;
  }

  bool Stopping() {
    const int32_t live = job_.LiveMembers();
    if (live == 0) return false;
    answer_.rule = WaitRule::kStopping;
    answer_.needed = 0;
    answer_.summary = absl::StrCat(job_.reason.text, "; ", Workers(live),
                                   " must stop the old ranks before the next generation starts");
    return true;
  }

  bool BackingOff() {
    if (job_.deadline == absl::InfiniteFuture()) return false;
    answer_.rule = WaitRule::kBackOff;
    answer_.next_attempt = job_.deadline;
    answer_.summary =
        absl::StrCat("tries again in ",
                     absl::FormatDuration(absl::Ceil(
                         std::max(job_.deadline - now_, absl::ZeroDuration()), absl::Seconds(1))),
                     " after failure ", job_.counters.failures, " of at most ",
                     job_.request.max_retries + 1, ": ", job_.last_failure.reason.text);
    return true;
  }

  bool AtQueueLimit() {
    const int32_t allowance = QueueAllowance(state_, job_);
    if (allowance >= job_.request.min_workers) return false;
    const Queue& queue = *state_.FindQueue(job_.request.queue);
    answer_.rule = WaitRule::kQueueLimit;
    answer_.available = allowance;
    answer_.existing = queue.settings.max_workers;
    if (IsAboveQueueLimit(state_, job_)) {
      answer_.available = answer_.existing;
      answer_.short_by = job_.request.min_workers - answer_.existing;
      answer_.summary = absl::StrCat(
          "queue ", job_.request.queue, " may use ", Workers(answer_.existing), "; the job needs ",
          job_.request.min_workers, ", so it cannot start unless the limit is raised");
      OfferLess(allowance);
      return true;
    }
    answer_.short_by = job_.request.min_workers - allowance;
    answer_.holders = HoldersWhere(state_, [&](const Worker&, const Job& holder) {
      return holder.request.queue == job_.request.queue;
    });
    answer_.summary =
        absl::StrCat("queue ", job_.request.queue, " may use ", Workers(queue.settings.max_workers),
                     " and ", allowance, " are left; the job needs ", job_.request.min_workers,
                     HoldersText(answer_.holders));
    OfferLess(allowance);
    return true;
  }

  // With the other jobs for workers. A gang is of one device class, so the largest class counts.
  void Compete() {
    const Supply supply = SupplyFor(state_, job_);
    for (const auto& [name, offered] : supply) {
      answer_.draining += offered.draining;
      const auto free = static_cast<int32_t>(offered.free.size());
      answer_.existing = std::max(answer_.existing, offered.existing);
      most_free_ = std::max(most_free_, free);
    }
    answer_.available = most_free_;
    answer_.short_by = std::max(job_.request.min_workers - most_free_, 0);
    const GangChoice choice = ChooseGang(job_, supply, Reserved{}, QueueAllowance(state_, job_),
                                         now_ < state_.gather_until);
    switch (choice.fit) {
      case Fit::kTooFew:
        return TooFew();
      case Fit::kBusy:
        return Busy();
      case Fit::kGathering:
        answer_.rule = WaitRule::kGathering;
        answer_.next_attempt = state_.gather_until;
        answer_.summary =
            "the coordinator has just started and gives more workers a moment to connect";
        return;
      case Fit::kPlaced:
        break;
    }
    if (first_ahead_.has_value()) {
      answer_.rule = WaitRule::kBehindOthers;
      answer_.first_ahead = first_ahead_;
      answer_.summary = absl::StrCat(most_free_, " free ", Kind(), " worker(s) are kept for ",
                                     state_.FindJob(*first_ahead_)->name, ", the first of ",
                                     answer_.ahead, " job(s) before this one");
      return;
    }
    answer_.rule = WaitRule::kAboutToStart;
    answer_.summary = "nothing is in its way; it is placed at the next event";
  }

  void TooFew() {
    answer_.rule = answer_.existing == 0 ? WaitRule::kNoSuchDevice : WaitRule::kTooFewWorkers;
    answer_.summary = absl::StrCat("needs ", job_.request.min_workers, " ", Kind(),
                                   " worker(s), the cluster has ", answer_.existing);
    if (answer_.draining > 0) {
      absl::StrAppend(&answer_.summary, " (and ", answer_.draining, " being drained)");
    }
    OfferLess(most_free_);
  }

  void Busy() {
    answer_.rule = WaitRule::kWorkersBusy;
    answer_.holders = HoldersWhere(state_, [&](const Worker& worker, const Job&) {
      return job_.request.Takes(worker.offer.device_kind) &&
             (answer_.device_class.empty() || worker.offer.device_class == answer_.device_class);
    });
    answer_.summary =
        absl::StrCat("needs ", job_.request.min_workers, " ", Kind(), " worker(s), ", most_free_,
                     " of ", answer_.existing, " are free", HoldersText(answer_.holders));
    OfferLess(most_free_);
  }

  // A smaller request helps only where nobody waits in front.
  void OfferLess(int32_t workers) {
    if (workers < 1 || first_ahead_.has_value()) return;
    answer_.would_start_with = workers;
    absl::StrAppend(&answer_.summary, "; with min_workers: ", workers, " it would start now");
  }

  [[nodiscard]] std::string Kind() const {
    return answer_.device_class.empty()
               ? job_.request.device_kind
               : absl::StrCat(job_.request.device_kind, " (class ", answer_.device_class,
                              ", which its checkpoint is bound to)");
  }

  const ClusterState& state_;
  const Job& job_;
  const absl::Time now_;
  Explanation answer_;
  std::optional<JobId> first_ahead_;
  int32_t most_free_ = 0;
};

}  // namespace

absl::StatusOr<Explanation> Explain(const ClusterState& state, JobId job, absl::Time now) {
  const Job* found = state.FindJob(job);
  if (found == nullptr) {
    return absl::NotFoundError(absl::StrCat("there is no job ", job.value()));
  }
  return Explainer(state, *found, now).Run();
}

}  // namespace weft::coordinator
