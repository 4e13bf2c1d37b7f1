// weft top.

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <future>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/commands.h"
#include "client/full_screen.h"
#include "client/list_all.h"
#include "client/signal_queue.h"
#include "client/terminal.h"
#include "client/top_view.h"
#include "client/within.h"
#include "common/process/file_descriptor.h"
#include "weft/v1/worker.grpc.pb.h"

namespace weft::client {
namespace {

struct TopFlags {
  std::string interval = "2s";
  int64_t count = 0;  // of looks; 0: until q, or one without a terminal
  TopChoice choice;
};

absl::StatusOr<ClusterView> Look(Session& session, bool ended) {
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto jobs = v1::JobService::NewStub(channel);
  auto workers = v1::WorkerService::NewStub(channel);
  ClusterView view;
  v1::ListJobsRequest request;
  request.set_page_size(1000);
  if (!ended) request.set_filter("active=true");
  WEFT_ASSIGN_OR_RETURN(view.jobs,
                        ListAll<v1::Job>(session, *jobs, &v1::JobService::Stub::ListJobs, request,
                                         [](auto& r) { return r.mutable_jobs(); }));
  WEFT_ASSIGN_OR_RETURN(
      view.workers,
      ListAll<v1::Worker>(session, *workers, &v1::WorkerService::Stub::ListWorkers,
                          v1::ListWorkersRequest(), [](auto& r) { return r.mutable_workers(); }));
  view.address = session.address();
  view.time = absl::Now();
  return view;
}

// Tables below each other, for files and pipes, and for terminals that can do no more.
absl::Status PrintTables(Session& session, const TopFlags& flags, absl::Duration interval) {
  const int64_t count = std::max<int64_t>(flags.count, 1);
  for (int64_t shown = 0; shown < count; ++shown) {
    if (shown > 0) absl::SleepFor(interval);
    WEFT_ASSIGN_OR_RETURN(const ClusterView view, Look(session, flags.choice.ended));
    std::cout << (shown > 0 ? "\n" : "") << TopText(view, flags.choice) << std::flush;
  }
  return absl::OkStatus();
}

// The full screen. Looks are taken by a thread of their own, so that keys, signals and a new size
// of the terminal are answered at once, however long the coordinator takes.
class LiveTop {
 public:
  LiveTop(Session& session, const TopChoice& choice, absl::Duration interval)
      : session_(session),
        interval_(interval),
        signals_({SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH}),
        looked_(eventfd(0, EFD_CLOEXEC)),
        choice_(choice) {}

  // Until a key ends it, or the first look fails, or one fails for another reason than that the
  // coordinator is away.
  absl::Status Run() {
    BeginLook();
    while (true) {
      std::array<pollfd, 3> events = {Readable(signals_.descriptor()), Readable(looked_.get()),
                                      Readable(screen_ ? STDIN_FILENO : -1)};
      const absl::Duration rest = look_.valid() ? absl::InfiniteDuration() : next_ - absl::Now();
      poll(events.data(), events.size(), Milliseconds(rest));
      if (events[0].revents != 0) TakeSignal();
      if (events[1].revents != 0) WEFT_RETURN_IF_ERROR(TakeLook());
      if (events[2].revents != 0 && !TakeKeys()) return End();
      if (!look_.valid() && absl::Now() >= next_) BeginLook();
      if (screen_) Show();
    }
  }

 private:
  static pollfd Readable(int descriptor) {
    return {.fd = descriptor, .events = POLLIN, .revents = 0};
  }

  static int Milliseconds(absl::Duration duration) {
    if (duration == absl::InfiniteDuration()) return -1;
    return static_cast<int>(absl::ToInt64Milliseconds(std::max(duration, absl::ZeroDuration()))) +
           1;
  }

  void BeginLook() {
    look_ = std::async(std::launch::async, [this, ended = choice_.ended] {
      absl::StatusOr<ClusterView> view = Look(session_, ended);
      eventfd_write(looked_.get(), 1);
      return view;
    });
  }

  absl::Status TakeLook() {
    eventfd_t count = 0;
    eventfd_read(looked_.get(), &count);
    absl::StatusOr<ClusterView> view = look_.get();
    next_ = absl::Now() + interval_;
    if (view.ok()) {
      view_ = *std::move(view);
      problem_.clear();
      if (!screen_) screen_.emplace();
    } else if (screen_ && absl::IsUnavailable(view.status())) {
      // A coordinator that is away for a while ends nothing that was there before.
      problem_ = std::string(view.status().message());
      session_.Disconnect();
    } else {
      screen_.reset();
      return view.status();
    }
    return absl::OkStatus();
  }

  // False when one ends the program.
  bool TakeKeys() {
    const bool ended = choice_.ended;
    for (const int key : screen_->Keys()) {
      if (!PressTopKey(key, TerminalHeight(), choice_)) return false;
    }
    if (choice_.ended != ended) next_ = absl::Now();
    return true;
  }

  void TakeSignal() {
    const std::optional<int> signal = signals_.Next(absl::ZeroDuration());
    if (!signal || *signal == SIGWINCH) return;
    const bool shown = screen_.has_value();
    screen_.reset();
    signals_.Obey(*signal);
    if (shown) screen_.emplace();  // we were stopped, and go on
  }

  void Show() {
    const int columns = TerminalWidth();
    const int rows = TerminalHeight();
    const std::vector<std::string> lines = TopLines(view_, problem_, columns, rows, choice_);
    screen_->Show(Frame(lines, TopKeys(choice_), columns, rows));
  }

  absl::Status End() {
    screen_.reset();
    if (look_.valid()) std::_Exit(kExitOk);  // it may wait long for an answer
    return absl::OkStatus();
  }

  Session& session_;  // of the thread that looks, while there is one
  const absl::Duration interval_;
  const SignalQueue signals_;
  const FileDescriptor looked_;  // readable when a look is done
  std::future<absl::StatusOr<ClusterView>> look_;
  absl::Time next_ = absl::InfinitePast();  // when to look again
  ClusterView view_;
  std::string problem_;  // why the view is not of now
  TopChoice choice_;
  std::optional<FullScreen> screen_;  // once there is something to show
};

absl::Status Top(Session& session, const TopFlags& flags) {
  absl::Duration interval;
  if (!absl::ParseDuration(flags.interval, &interval) || interval < absl::Milliseconds(100)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--interval must be a duration of at least 100ms, such as 2s, is '", flags.interval, "'"));
  }
  if (PrintsResultAlone(session.output)) {
    return absl::InvalidArgumentError(
        "top prints tables; for programs: weft get jobs, weft get workers");
  }
  if (flags.count > 0 || !HasFullScreen()) return PrintTables(session, flags, interval);
  return LiveTop(session, flags.choice, interval).Run();
}

}  // namespace

void AddTop(CLI::App& app, Session& session) {
  auto flags = std::make_shared<TopFlags>();
  CLI::App* command = app.add_subcommand(
      "top", "Show jobs and workers, live, until q; once where there is no terminal");
  command->add_option("--interval", flags->interval, "Time between two looks: 500ms, 2s")
      ->capture_default_str();
  command->add_option("-n,--count", flags->count, "Print the tables this many times, then end")
      ->check(Within<int64_t>(1));
  command->add_flag("--all", flags->choice.ended, "Show jobs that have ended, too");
  command->callback([flags, &session] { session.Fail(Top(session, *flags)); });
}

}  // namespace weft::client
