#include "worker/agent/step_buffer.h"

#include <utility>

namespace weft::worker {
namespace {

// What may be on its way when a link breaks: a second or so of small steps.
constexpr size_t kKeptAfterTaking = 100;
constexpr size_t kKeptMembers = 16;

}  // namespace

void StepBuffer::Add(const MemberKey& key, const v1::StepReport& step) {
  std::deque<v1::StepReport>& steps = waiting_[key];
  steps.push_back(step);
  if (steps.size() > limit_) steps.pop_front();
}

std::vector<v1::StepBatch> StepBuffer::Take(size_t batch_steps) {
  std::vector<v1::StepBatch> batches;
  for (auto& [key, steps] : waiting_) {
    for (size_t i = 0; i < steps.size(); ++i) {
      if (i % batch_steps == 0) {
        batches.emplace_back();
        batches.back().set_job(key.job);
        batches.back().set_generation(key.generation.value());
      }
      *batches.back().add_steps() = steps[i];
    }
    std::deque<v1::StepReport>& taken = taken_[key];
    for (v1::StepReport& step : steps) taken.push_back(std::move(step));
    while (taken.size() > kKeptAfterTaking) taken.pop_front();
  }
  waiting_.clear();
  // Members that are over are forgotten sooner or later.
  while (taken_.size() > kKeptMembers) taken_.erase(taken_.begin());
  return batches;
}

void StepBuffer::TakeBack() {
  for (auto& [key, taken] : taken_) {
    std::deque<v1::StepReport>& steps = waiting_[key];
    while (!taken.empty() && steps.size() < limit_) {
      steps.push_front(std::move(taken.back()));
      taken.pop_back();
    }
  }
  taken_.clear();
}

}  // namespace weft::worker
