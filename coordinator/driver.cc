#include "coordinator/driver.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"

namespace weft::coordinator {
namespace {

// How soon to look again after the store refused a commit for a passing reason.
constexpr absl::Duration kStoreRetry = absl::Seconds(1);

// The same commit may succeed later, and nothing of it was stored.
bool IsPassing(const absl::Status& status) {
  return status.code() == absl::StatusCode::kResourceExhausted ||
         status.code() == absl::StatusCode::kUnavailable;
}

}  // namespace

Driver::Driver(EventLoop& loop, EventLoop& store_loop, JobStore& store, WorkerLink& link,
               DriverObserver* observer, const Options& options)
    : loop_(loop),
      store_loop_(store_loop),
      store_(store),
      link_(link),
      observer_(observer),
      options_(options) {
  WEFT_CHECK(&loop != &store_loop);
}

int64_t Driver::pending() const {
  return static_cast<int64_t>(in_flight_.size() + waiting_.size());
}

void Driver::Start(StoredCluster loaded) {
  WEFT_CHECK(loop_.InLoopThread());
  WEFT_CHECK(!started_);
  started_ = true;
  version_ = loaded.version;
  committed_ = std::move(loaded.state);
  ahead_ = committed_;
  Handle(CoordinatorStarted{});
}

void Driver::Handle(const Event& event, Done done) {
  WEFT_CHECK(loop_.InLoopThread());
  WEFT_CHECK(started_);
  if (stepped_down_) {
    if (done) done(absl::UnavailableError("this coordinator has stopped deciding"));
    return;
  }
  const bool from_timer = std::holds_alternative<TimerFired>(event);
  if (pending() >= options_.max_pending && !from_timer) {
    if (done) {
      done(absl::ResourceExhaustedError(
          absl::StrCat(pending(), " requests wait to be stored, which is the limit")));
    }
    return;
  }
  if (from_timer) timer_posted_ = false;
  Outcome outcome = DecideAhead(ahead_, event, loop_.clock().Now(), options_.policy);
  ArmTimer(outcome.next_wakeup);
  waiting_.push_back(Step{std::move(outcome), std::move(done)});
  if (!committing_ && !releasing_) CommitNext();
}

void Driver::CommitNext() {
  // Steps with nothing to store go on at once; the loop takes up what their callers ask for next.
  while (!waiting_.empty() && !committing_ && !stepped_down_) {
    std::vector<Step> steps = std::move(waiting_);
    waiting_.clear();
    std::vector<Fact> durable;
    for (const Step& step : steps) {
      std::copy_if(step.outcome.facts.begin(), step.outcome.facts.end(),
                   std::back_inserter(durable), IsDurable);
    }
    if (durable.empty()) {
      Release(std::move(steps));
      continue;
    }
    committing_ = true;
    in_flight_ = std::move(steps);
    store_loop_.Post(
        [this, expected = version_, durable = std::move(durable), begun = loop_.clock().Now()] {
          const absl::StatusOr<StoreVersion> stored = store_.Commit(expected, durable);
          const auto count = static_cast<int64_t>(durable.size());
          loop_.Post([this, stored, begun, count] { OnStored(stored, begun, count); });
        });
  }
}

void Driver::OnStored(const absl::StatusOr<StoreVersion>& stored, absl::Time begun, int64_t facts) {
  WEFT_CHECK(committing_);
  committing_ = false;
  if (stepped_down_) return;  // and all that waited were told so
  if (observer_ != nullptr) {
    observer_->OnCommit(stored.status(), facts, loop_.clock().Now() - begun);
  }
  if (!stored.ok()) {
    return IsPassing(stored.status()) ? TakeBack(stored.status()) : StepDown(stored.status());
  }
  version_ = *stored;
  std::vector<Step> steps = std::move(in_flight_);
  in_flight_.clear();
  Release(std::move(steps));
  CommitNext();
}

void Driver::Release(std::vector<Step> steps) {
  releasing_ = true;
  for (const Step& step : steps) {
    for (const Fact& fact : step.outcome.facts) Apply(committed_, fact);
    if (observer_ != nullptr && !step.outcome.facts.empty()) {
      observer_->OnFacts(step.outcome.facts, committed_);
    }
  }
  for (Step& step : steps) {
    if (step.done) step.done(step.outcome.reply);
    for (const Command& command : step.outcome.commands) link_.Send(command);
  }
  releasing_ = false;
}

void Driver::AnswerAll(const absl::Status& why) {
  std::vector<Step> void_steps = std::move(in_flight_);
  in_flight_.clear();
  void_steps.insert(void_steps.end(), std::make_move_iterator(waiting_.begin()),
                    std::make_move_iterator(waiting_.end()));
  waiting_.clear();
  for (Step& step : void_steps) {
    if (step.done) step.done(why);
  }
}

void Driver::TakeBack(const absl::Status& why) {
  const absl::Time now = loop_.clock().Now();
  // Forgotten with the rest is that workers were heard: as after a stop, all get time to say it
  // again before their silence counts.
  Apply(committed_,
        CoordinatorStalled{now, absl::ZeroDuration(), now + options_.policy.heartbeat_timeout});
  ahead_ = committed_;
  // Whoever asked gets the reason; what workers said they will say again.
  releasing_ = true;
  AnswerAll(why);
  releasing_ = false;
  ArmTimer(now + kStoreRetry);
  CommitNext();
}

void Driver::StepDown(const absl::Status& why) {
  if (std::exchange(stepped_down_, true)) return;
  ArmTimer(absl::InfiniteFuture());
  // Not kAborted, which tells a worker that nobody wants to know: the next coordinator does.
  AnswerAll(absl::UnavailableError(absl::StrCat("this coordinator stops: ", why.message())));
  if (observer_ != nullptr) observer_->OnSteppedDown(why);
}

void Driver::ArmTimer(absl::Time when) {
  // A deadline that passed before it was asked for does not mean that the loop was stopped.
  const absl::Time now = loop_.clock().Now();
  when = std::max(when, now);
  // A timer that is due does mean it, and is about to say by how much.
  if (timer_posted_ || (timer_.has_value() && (timer_at_ == when || timer_at_ <= now))) return;
  if (timer_.has_value()) loop_.Cancel(*timer_);
  timer_.reset();
  timer_at_ = when;
  if (when == absl::InfiniteFuture()) return;
  timer_ = loop_.RunAt(when, [this, when] {
    timer_.reset();
    timer_posted_ = true;
    // Through the queue: heartbeats that came before are heard before their senders are judged.
    loop_.Post([this, when] { Handle(TimerFired{when}); });
  });
}

}  // namespace weft::coordinator
