// A rank that trains nothing: it counts. Its job's name says how it behaves:
//   train-*   counts to training.steps, a step every 5 ms, then succeeds
//   crash-*   aborts itself in step 3
//   quit-*    ends with status 3 in step 3, without a word
//   bad-*     says that the spec cannot work
//   hang-*    stops counting in step 3 and heeds no orders (but its link tells that it lives)
//   spam-*    prints training.steps lines at once, then succeeds
// With a relay channel it adds up ones over all ranks in every step and checks the sum; like real
// ranks, all of a gang save after the same step when one of them is told to.
// As `sample` it prints what it was asked for, or fails as the checkpoint's name says.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/check.h"
#include "common/base/exit_codes.h"
#include "common/process/framed_socket.h"
#include "kernels/device/device.h"
#include "kernels/device/reference/reference_device.h"
#include "weft/v1/rank_link.pb.h"
#include "worker/comm/relay_exchange.h"

namespace weft::worker {
namespace {

constexpr absl::Duration kStepTime = absl::Milliseconds(5);
constexpr absl::Duration kExchangeTime = absl::Seconds(10);

class FakeRank {
 public:
  FakeRank() : socket_(FileDescriptor(3)) {}

  int Run() {
    v1::AgentToRank first;
    const auto bytes = socket_.Receive();
    if (!bytes.ok() || !first.ParseFromString(*bytes) || !first.has_assignment()) return kExitError;
    assignment_ = first.assignment();
    const std::string& name = assignment_.spec().name();
    std::printf("rank %d of %d of generation %d\n", assignment_.rank(), assignment_.world_size(),
                static_cast<int>(assignment_.generation()));
    std::fflush(stdout);
    SendPhase(v1::MemberStatus::PHASE_STARTING, 0);
    if (absl::StartsWith(name, "bad")) {
      return Finish(v1::MemberExit::OUTCOME_USER_ERROR, "the text is empty", 0);
    }
    if (!assignment_.relay_channel().empty() && !Join()) {
      return Finish(v1::MemberExit::OUTCOME_PEER_LOST, "the relays did not come", 0);
    }
    SendPhase(v1::MemberStatus::PHASE_TRAINING, 0);
    if (absl::StartsWith(name, "spam")) Spam();
    for (int64_t step = 1; step <= assignment_.spec().training().steps(); ++step) {
      if (step == 3) Misbehave(name);
      bool saves = SaveWanted(absl::StartsWith(name, "spam") ? absl::ZeroDuration() : kStepTime);
      if (exchange_ != nullptr && !Exchange(saves)) {
        return Finish(v1::MemberExit::OUTCOME_PEER_LOST, "an exchange failed", step - 1);
      }
      ReportStep(step);
      if (saves) return Save(step);
    }
    return Save(assignment_.spec().training().steps());
  }

 private:
  void Send(const v1::RankToAgent& message) { (void)socket_.Send(message.SerializeAsString()); }

  void SendPhase(v1::MemberStatus::Phase phase, int64_t step) {
    v1::RankToAgent message;
    message.mutable_phase()->set_phase(phase);
    message.mutable_phase()->set_step(step);
    Send(message);
  }

  void ReportStep(int64_t step) {
    SendPhase(v1::MemberStatus::PHASE_TRAINING, step);
    v1::RankToAgent own;
    own.mutable_rank_step()->set_step(step);
    own.mutable_rank_step()->mutable_time()->set_compute(0.25);
    own.mutable_rank_step()->mutable_time()->set_exchange(0.5);
    Send(own);
    if (assignment_.rank() != 0) return;
    v1::RankToAgent message;
    message.mutable_step()->set_step(step);
    message.mutable_step()->set_loss(1.0 / static_cast<double>(step));
    Send(message);
  }

  int Save(int64_t step) {
    SendPhase(v1::MemberStatus::PHASE_SAVING, step);
    if (assignment_.rank() == 0) {
      v1::RankToAgent message;
      message.mutable_checkpoint()->set_step(step);
      message.mutable_checkpoint()->set_path(assignment_.checkpoint_root());
      Send(message);
    }
    const bool done = step == assignment_.spec().training().steps();
    return Finish(done ? v1::MemberExit::OUTCOME_SUCCEEDED : v1::MemberExit::OUTCOME_SAVED, "",
                  step);
  }

  int Finish(v1::MemberExit::Outcome outcome, const std::string& text, int64_t step) {
    v1::RankToAgent message;
    message.mutable_finished()->set_outcome(outcome);
    message.mutable_finished()->set_message(text);
    message.mutable_finished()->set_step(step);
    if (outcome == v1::MemberExit::OUTCOME_SUCCEEDED) {
      message.mutable_finished()->set_weights_hash("hash");
    }
    Send(message);
    return kExitOk;
  }

  // Waits for `time`, or the agent's order to save. An agent that is gone ends the process.
  bool SaveWanted(absl::Duration time) {
    const auto bytes = socket_.Receive(absl::Now() + time);
    if (bytes.ok()) return true;
    if (!absl::IsDeadlineExceeded(bytes.status())) std::_Exit(kExitUnavailable);
    return false;
  }

  static void Misbehave(const std::string& name) {
    if (absl::StartsWith(name, "crash")) std::abort();
    if (absl::StartsWith(name, "quit")) std::_Exit(3);
    while (absl::StartsWith(name, "hang")) pause();
  }

  void Spam() const {
    for (int64_t line = 0; line < assignment_.spec().training().steps(); ++line) {
      std::printf("line %d\n", static_cast<int>(line));
    }
    std::fflush(stdout);
    std::fprintf(stderr, "no line end, and a byte that is no text: \xff");
  }

  bool Join() {
    Membership membership;
    membership.job = assignment_.job();
    membership.generation = Generation(assignment_.generation());
    membership.rank = assignment_.rank();
    membership.ranks = assignment_.world_size();
    membership.local_rank = assignment_.local_rank();
    membership.relay_channel = assignment_.relay_channel();
    exchange_ = std::make_unique<RelayExchange>();
    device_ = kernels::NewReferenceDevice();
    const absl::Status prepared = exchange_->Prepare(membership, absl::Now() + kExchangeTime);
    if (!prepared.ok()) std::printf("%s\n", prepared.ToString().c_str());
    return prepared.ok();
  }

  // `saves` becomes whether any rank wants to.
  bool Exchange(bool& saves) {
    auto bucket = kernels::NewTensor(*device_, kernels::DType::kI32, {2});
    WEFT_CHECK(bucket.ok());
    bucket->data<int32_t>()[0] = 1;
    bucket->data<int32_t>()[1] = saves ? 1 : 0;
    const absl::Status reduced =
        exchange_->Reduce(*bucket, ReduceOp::kSum, absl::Now() + kExchangeTime);
    if (!reduced.ok()) std::printf("%s\n", reduced.ToString().c_str());
    std::fflush(stdout);
    saves = bucket->data<int32_t>()[1] > 0;
    return reduced.ok() && bucket->data<int32_t>()[0] == assignment_.world_size();
  }

  FramedSocket socket_;
  v1::RankAssignment assignment_;
  std::unique_ptr<RelayExchange> exchange_;
  std::unique_ptr<kernels::Device> device_;
};

// Prints its arguments; a checkpoint named "missing" is not found, one named "endless" never ends.
int Sample(int argc, char** argv) {
  for (int i = 2; i < argc; ++i) {
    std::printf("%s\n", argv[i]);
    if (absl::EndsWith(argv[i], "missing")) {
      std::fprintf(stderr, "weft-rank: no checkpoint at missing\n");
      return kExitNotFound;
    }
    while (absl::EndsWith(argv[i], "endless")) {
      std::fflush(stdout);
      pause();
    }
  }
  return kExitOk;
}

}  // namespace
}  // namespace weft::worker

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "sample") return weft::worker::Sample(argc, argv);
  return weft::worker::FakeRank().Run();
}
