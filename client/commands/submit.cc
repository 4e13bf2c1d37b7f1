// weft submit, weft validate.

#include <iostream>
#include <memory>
#include <random>
#include <string>

#include "absl/strings/str_format.h"
#include "client/commands.h"
#include "client/text.h"
#include "common/base/status_macros.h"
#include "proto/spec/print.h"

namespace weft::client {
namespace {

std::string NewRequestId() {
  std::random_device random;
  return absl::StrFormat("%08x%08x%08x%08x", random(), random(), random(), random());
}

struct SubmitFlags {
  JobSource job;
  bool dry_run = false;
  bool watch = false;
};

void PrintSubmitted(const v1::Job& job, bool dry_run, bool watch, OutputFormat format) {
  if (IsForPrograms(format)) {
    PrintMessages({&job}, /*as_list=*/false, format, std::cout);
  } else if (format == OutputFormat::kName) {
    std::cout << (dry_run ? job.spec().name() : job.name()) << '\n';
  } else if (dry_run) {
    std::cout << "the spec of " << job.spec().name() << " is valid; nothing was stored\n";
  } else {
    const std::string id = ShortName(job.name());
    std::cout << job.name() << " submitted\n";
    if (!watch) {
      std::cout << "  weft watch " << id << "\n  weft logs -f " << id << "\n  weft cancel " << id
                << '\n';
    }
  }
}

absl::Status Submit(Session& session, const SubmitFlags& flags) {
  WEFT_ASSIGN_OR_RETURN(const v1::JobSpec spec, ReadJob(flags.job));
  WEFT_ASSIGN_OR_RETURN(const v1::Job job, SubmitSpec(session, spec, flags.dry_run));
  const bool watch = flags.watch && !flags.dry_run;
  // Programs get one document: the job as it is at its end.
  const bool later = watch && PrintsResultAlone(session.output);
  if (!later) PrintSubmitted(job, flags.dry_run, watch, session.output);
  if (watch) {
    ProgressPrinter progress = ProgressOf(session);
    WatchToEnd(session, job.name(), absl::InfiniteDuration(), progress);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::Job> SubmitSpec(Session& session, const v1::JobSpec& spec, bool validate_only) {
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto stub = v1::JobService::NewStub(channel);
  v1::CreateJobRequest request;
  *request.mutable_spec() = spec;
  request.set_request_id(NewRequestId());
  request.set_validate_only(validate_only);
  return session.Call(&v1::JobService::Stub::CreateJob, *stub, request);
}

void AddSubmit(CLI::App& app, Session& session) {
  {
    auto flags = std::make_shared<SubmitFlags>();
    CLI::App* command = app.add_subcommand("submit", "Submit a job");
    AddJobSource(*command, flags->job);
    command->add_flag("--dry-run", flags->dry_run, "Let the server check the spec, store nothing");
    command->add_flag("-w,--watch", flags->watch, "Follow the job to its end");
    command->callback([flags, &session] { session.Fail(Submit(session, *flags)); });
  }
  {
    auto job = std::make_shared<JobSource>();
    CLI::App* command = app.add_subcommand(
        "validate", "Check a spec without a server and print it with all defaults filled in");
    AddJobSource(*command, *job);
    command->callback([job, &session] {
      const absl::StatusOr<v1::JobSpec> spec = ReadJob(*job);
      if (!spec.ok()) return session.Fail(spec.status());
      if (session.output == OutputFormat::kName) {
        std::cout << spec->name() << '\n';
      } else if (session.output == OutputFormat::kJson) {
        PrintMessages({&*spec}, /*as_list=*/false, session.output, std::cout);
      } else {
        std::cout << spec::SpecToYaml(*spec);
      }
    });
  }
}

}  // namespace weft::client
