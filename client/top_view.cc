#include "client/top_view.h"

#include <algorithm>
#include <map>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/resource_tables.h"
#include "client/session.h"
#include "client/text.h"

namespace weft::client {
namespace {

// "2 running, 1 queued"; "none" without any.
template <typename Resources, typename NameOf>
std::string CountByState(const Resources& resources, const NameOf& name_of) {
  std::map<std::string, int> counts;
  for (const auto& resource : resources) ++counts[absl::AsciiStrToLower(name_of(resource))];
  if (counts.empty()) return "none";
  return absl::StrJoin(counts, ", ", [](std::string* out, const auto& count) {
    absl::StrAppend(out, count.second, " ", count.first);
  });
}

Table TopJobs(const std::vector<v1::Job>& jobs, absl::Time now) {
  Table table({"JOB", "STATE", "STEP", "DONE", "LOSS", "VALIDATION", "TOKENS/S", "ETA", "WORKERS",
               "RECOVERIES", "AGE", "REASON"});
  for (const v1::Job& job : jobs) {
    const auto steps = static_cast<double>(std::max<int64_t>(1, job.spec().training().steps()));
    table.Add(
        {ShortName(job.name()), StateName(job.state()),
         absl::StrCat(job.last_step().step(), "/", job.spec().training().steps()),
         absl::StrFormat("%.0f%%", 100 * static_cast<double>(job.last_step().step()) / steps),
         LossCell(job),
         job.has_validation_loss() ? absl::StrFormat("%.3f", job.validation_loss()) : "",
         SpeedCell(job), job.has_eta() ? ShortDuration(absl::Seconds(job.eta().seconds())) : "",
         absl::StrCat(job.workers_size()), absl::StrCat(job.recoveries()),
         Age(job.create_time(), now), job.state() == v1::Job::STATE_RUNNING ? "" : job.reason()});
  }
  return table;
}

}  // namespace

std::string TopText(const ClusterView& view, absl::Time now) {
  std::vector<v1::Job> jobs = view.jobs;
  std::stable_sort(jobs.begin(), jobs.end(), [](const v1::Job& a, const v1::Job& b) {
    return (a.state() == v1::Job::STATE_RUNNING) > (b.state() == v1::Job::STATE_RUNNING);
  });
  std::ostringstream out;
  out << "weft at " << view.address << "  "
      << absl::FormatTime("%H:%M:%S", now, absl::LocalTimeZone())
      << "\njobs: " << CountByState(jobs, [](const v1::Job& job) { return StateName(job.state()); })
      << "   workers: " << CountByState(view.workers, WorkerStateName) << "\n\n";
  if (!jobs.empty()) {
    TopJobs(jobs, now).Print(out);
    out << '\n';
  }
  if (!view.workers.empty()) WorkerTable(view.workers, /*wide=*/false).Print(out);
  return out.str();
}

std::string FitScreen(const std::string& text, int columns, int rows) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  const auto room = static_cast<size_t>(std::max(2, rows - 1));
  if (lines.size() > room) {
    const size_t missing = lines.size() - room + 1;
    lines.resize(room - 1);
    lines.push_back(absl::StrCat("... ", missing, " more lines"));
  }
  std::string screen;
  for (const std::string& line : lines) {
    absl::StrAppend(&screen, line.substr(0, static_cast<size_t>(std::max(1, columns - 1))),
                    "\x1b[K\r\n");
  }
  return screen;
}

}  // namespace weft::client
