// A history with every kind of durable fact, made by the core itself.
#pragma once

#include <algorithm>
#include <iterator>
#include <vector>

#include "tests/coordinator/core/test_cluster.h"

namespace weft::coordinator {

// The batches are what one event each made durable.
inline std::vector<std::vector<Fact>> StoredHistory() {
  TestCluster cluster;
  cluster.policy.gather_time = absl::ZeroDuration();
  cluster.On(TimerFired{cluster.now});
  cluster.On(QueueCreateRequested{{"night", 4}});
  cluster.On(QueueCreateRequested{{"gone", 0}});
  cluster.On(QueueDeleteRequested{"gone"});
  WorkerOffer described = CpuWorker(2);
  described.description = SharedBytes(std::string("\0\xff binary", 9));
  cluster.Join("a", described);
  cluster.Join("b");
  cluster.Join("c");
  JobRequest night = CpuJob("long", 2, 3);
  night.queue = "night";
  night.request_id = "request-1";
  night.spec = SharedBytes(std::string("\0spec\xfe", 6));
  const JobId long_job = cluster.Submit(night);
  cluster.BeatGang(long_job);
  EXPECT_OK(cluster.Publish(long_job, 10));
  cluster.Exit(long_job, "a", MemberOutcome::kRankFailed, "out of memory; caf\xc3\xa9 \"quoted\"",
               cluster.job(long_job).FindMember("a")->first_rank);
  cluster.ExitGang(long_job, MemberOutcome::kStopped);
  cluster.Pass(absl::Seconds(2));
  cluster.On(JobPauseRequested{long_job});
  cluster.ExitGang(long_job, MemberOutcome::kStopped);
  cluster.On(JobResumeRequested{long_job});
  const JobId brief = cluster.Submit(CpuJob("brief"));
  cluster.On(DrainRequested{"c", "new memory", true});
  cluster.On(JobCancelRequested{brief});
  cluster.ExitGang(brief, MemberOutcome::kStopped);
  const JobId deleted = cluster.Submit(CpuJob("deleted", 99));
  cluster.On(JobCancelRequested{deleted});
  cluster.On(JobDeleteRequested{deleted});
  cluster.On(WorkerLeft{"b", "first"});
  cluster.Pass(absl::Hours(2));

  std::vector<std::vector<Fact>> batches;
  for (const std::vector<Fact>& facts : cluster.history) {
    std::vector<Fact> durable;
    std::copy_if(facts.begin(), facts.end(), std::back_inserter(durable), IsDurable);
    if (!durable.empty()) batches.push_back(durable);
  }
  return batches;
}

}  // namespace weft::coordinator
