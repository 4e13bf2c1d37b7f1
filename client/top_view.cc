#include "client/top_view.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/full_screen.h"
#include "client/resource_tables.h"
#include "client/session.h"
#include "client/text.h"

namespace weft::client {
namespace {

constexpr size_t kUnlimited = 1 << 20;
constexpr std::array<const char*, 3> kTableNames = {"jobs and workers", "jobs", "workers"};
constexpr std::array<const char*, 5> kOrderNames = {"state", "name", "done", "speed", "age"};

// The one after it; after the last one the first.
template <typename Choice, size_t n>
Choice After(Choice choice, const std::array<const char*, n>& names) {
  return static_cast<Choice>((static_cast<size_t>(choice) + 1) % names.size());
}

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

double ShareDone(const v1::Job& job) {
  const auto steps = static_cast<double>(std::max<int64_t>(1, job.spec().training().steps()));
  return static_cast<double>(job.last_step().step()) / steps;
}

bool ComesBefore(const v1::Job& a, const v1::Job& b, TopOrder order) {
  switch (order) {
    case TopOrder::kState:
      return (a.state() == v1::Job::STATE_RUNNING) > (b.state() == v1::Job::STATE_RUNNING);
    case TopOrder::kName:
      return a.name() < b.name();
    case TopOrder::kDone:
      return ShareDone(a) > ShareDone(b);
    case TopOrder::kSpeed:
      return TokensPerSecond(a) > TokensPerSecond(b);
    case TopOrder::kAge:
      return FromProto(a.create_time()) > FromProto(b.create_time());
  }
  return false;
}

Table TopJobs(const std::vector<v1::Job>& jobs, absl::Time now) {
  Table table({"JOB", "STATE", "STEP", "DONE", "LOSS", "VALIDATION", "TOKENS/S", "ETA", "WORKERS",
               "RECOVERIES", "AGE", "REASON"});
  for (const v1::Job& job : jobs) {
    table.Add({ShortName(job.name()), StateName(job.state()),
               absl::StrCat(job.last_step().step(), "/", job.spec().training().steps()),
               absl::StrFormat("%.0f%%", 100 * ShareDone(job)), LossCell(job),
               job.has_validation_loss() ? absl::StrFormat("%.3f", job.validation_loss()) : "",
               SpeedCell(job),
               job.has_eta() ? ShortDuration(absl::Seconds(job.eta().seconds())) : "",
               absl::StrCat(job.workers_size()), absl::StrCat(job.recoveries()),
               Age(job.create_time(), now), ReasonCell(job, now)});
  }
  return table;
}

// What a narrow screen does without, in this order.
const std::vector<std::string>& SpareTitles() {
  static const auto& titles = *new std::vector<std::string>{
      "RECOVERIES", "AGE", "WORKERS", "VALIDATION", "DONE", "ETA", "TOKENS/S"};
  return titles;
}

// Two lines.
std::string Totals(const ClusterView& view) {
  return absl::StrCat(
      "weft at ", view.address, "  ",
      absl::FormatTime("%H:%M:%S", view.time, absl::LocalTimeZone()), "\njobs: ",
      CountByState(view.jobs, [](const v1::Job& job) { return StateName(job.state()); }),
      "   workers: ", CountByState(view.workers, WorkerStateName), "\n");
}

std::string Tables(const ClusterView& view, const TopChoice& choice, size_t columns) {
  std::vector<v1::Job> jobs = view.jobs;
  std::stable_sort(jobs.begin(), jobs.end(), [&](const v1::Job& a, const v1::Job& b) {
    return ComesBefore(a, b, choice.order);
  });
  const bool with_jobs = choice.tables != TopTables::kWorkers && !jobs.empty();
  const bool with_workers = choice.tables != TopTables::kJobs && !view.workers.empty();
  std::ostringstream out;
  if (with_jobs) {
    Table table = TopJobs(jobs, view.time);
    table.Narrow(columns, SpareTitles());
    table.Print(out);
  }
  if (with_jobs && with_workers) out << '\n';
  if (with_workers) WorkerTable(view.workers, /*wide=*/false).Print(out);
  return out.str();
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  lines.pop_back();  // text ends with a newline, or is empty
  return lines;
}

}  // namespace

std::string TopText(const ClusterView& view, const TopChoice& choice) {
  return absl::StrCat(Totals(view), "\n", Tables(view, choice, kUnlimited));
}

std::vector<std::string> TopLines(const ClusterView& view, const std::string& problem, int columns,
                                  int rows, TopChoice& choice) {
  std::vector<std::string> lines = Lines(Totals(view));
  lines.push_back(problem);
  const std::vector<std::string> tables =
      Lines(Tables(view, choice, static_cast<size_t>(std::max(0, columns - 1))));
  const int room = std::max(1, rows - 1 - static_cast<int>(lines.size()));
  const int count = static_cast<int>(tables.size());
  choice.scroll = std::clamp(choice.scroll, 0, std::max(0, count - room));
  const int end = std::min(count, choice.scroll + room);
  lines.insert(lines.end(), tables.begin() + choice.scroll, tables.begin() + end);
  if (end < count) lines.back() = absl::StrCat("... ", count - end + 1, " more lines");
  return lines;
}

std::string TopKeys(const TopChoice& choice) {
  std::string keys =
      absl::StrCat("q: quit  tab: ", kTableNames[static_cast<size_t>(choice.tables)]);
  if (choice.tables != TopTables::kWorkers) {
    absl::StrAppend(&keys, "  s: by ", kOrderNames[static_cast<size_t>(choice.order)],
                    "  a: ", choice.ended ? "all jobs" : "active jobs");
  }
  return keys + "  arrows: scroll";
}

bool PressTopKey(int key, int rows, TopChoice& choice) {
  switch (key) {
    case 'q':
    case kKeyEscape:
    case kKeyHangUp:
      return false;
    case '\t':
      choice.tables = After(choice.tables, kTableNames);
      choice.scroll = 0;
      break;
    case 's':
      choice.order = After(choice.order, kOrderNames);
      break;
    case 'a':
      choice.ended = !choice.ended;
      break;
    case kKeyUp:
    case kKeyDown:
      choice.scroll += key == kKeyUp ? -1 : 1;
      break;
    case kKeyPageUp:
    case kKeyPageDown:
      choice.scroll += key == kKeyPageUp ? -rows / 2 : rows / 2;
      break;
    case kKeyHome:
      choice.scroll = 0;
      break;
    case kKeyEnd:
      choice.scroll = std::numeric_limits<int>::max() / 2;
      break;
    default:
      break;
  }
  return true;
}

}  // namespace weft::client
