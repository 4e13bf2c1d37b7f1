// Virtual time. A SimSchedule is the one ordered list of everything that will happen; each process
// of the world has SimLoops on it, which the product code takes for event loops.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "common/time/event_loop.h"

namespace weft::simulation {

class SimSchedule final : public Clock {
 public:
  using Key = std::pair<absl::Time, int64_t>;  // equal times run in the order of the calls

  [[nodiscard]] absl::Time Now() const override { return now_; }

  Key At(absl::Time when, absl::AnyInvocable<void()> task) {
    const Key key{std::max(when, now_), ++sequence_};
    tasks_.emplace(key, std::move(task));
    return key;
  }
  Key After(absl::Duration delay, absl::AnyInvocable<void()> task) {
    return At(now_ + delay, std::move(task));
  }
  void Cancel(const Key& key) { tasks_.erase(key); }

  // Runs the next task, if it is due by `end`. Otherwise the time is `end` and the answer false.
  bool RunNext(absl::Time end) {
    if (tasks_.empty() || tasks_.begin()->first.first > end) {
      now_ = std::max(now_, end);
      return false;
    }
    now_ = tasks_.begin()->first.first;
    absl::AnyInvocable<void()> task = std::move(tasks_.begin()->second);
    tasks_.erase(tasks_.begin());
    task();
    return true;
  }

 private:
  absl::Time now_ = absl::FromUnixSeconds(1'700'000'000);
  int64_t sequence_ = 0;
  std::map<Key, absl::AnyInvocable<void()>> tasks_;
};

// A loop of one process. When the object dies, so does all that was posted to it: a crash.
class SimLoop final : public EventLoop {
 public:
  // Each post takes `delay()` to arrive; arrivals keep the order of the posts.
  SimLoop(SimSchedule& schedule, absl::AnyInvocable<absl::Duration()> delay)
      : schedule_(schedule), delay_(std::move(delay)), life_(std::make_shared<Life>()) {}
  ~SimLoop() override { life_->alive = false; }
  SimLoop(const SimLoop&) = delete;
  SimLoop& operator=(const SimLoop&) = delete;

  void Post(absl::AnyInvocable<void()> task) override {
    last_post_ = std::max(last_post_, schedule_.Now() + delay_());
    Enter(last_post_, std::move(task));
  }
  TimerId RunAt(absl::Time when, absl::AnyInvocable<void()> task) override {
    last_timer_ = last_timer_.Next();
    life_->timers[last_timer_] = true;
    Enter(when, [life = life_.get(), id = last_timer_, task = std::move(task)]() mutable {
      if (life->timers.erase(id) > 0) task();
    });
    return last_timer_;
  }
  void Cancel(TimerId timer) override { life_->timers.erase(timer); }
  [[nodiscard]] bool InLoopThread() const override { return true; }
  [[nodiscard]] const Clock& clock() const override { return schedule_; }

  // As if the process were stopped until then: everything waits, in order.
  void Freeze(absl::Time until) { life_->frozen_until = std::max(life_->frozen_until, until); }

 private:
  struct Life {
    bool alive = true;
    absl::Time frozen_until = absl::InfinitePast();
    std::map<TimerId, bool> timers;  // set and not cancelled
  };

  void Enter(absl::Time when, absl::AnyInvocable<void()> task) {
    schedule_.At(when, [this, when, life = life_, task = std::move(task)]() mutable {
      if (!life->alive) return;
      if (schedule_.Now() < life->frozen_until) {
        Enter(life->frozen_until, std::move(task));
      } else {
        task();
      }
    });
  }

  SimSchedule& schedule_;
  absl::AnyInvocable<absl::Duration()> delay_;
  std::shared_ptr<Life> life_;
  absl::Time last_post_ = absl::InfinitePast();
  TimerId last_timer_;
};

}  // namespace weft::simulation
