// The commands of `weft`, one function each: it adds the command with its flags to the app. What a
// command does runs while the arguments are parsed, and leaves its result in session.exit_code.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "client/job_file.h"
#include "client/progress.h"
#include "client/session.h"

namespace weft::client {

void AddSubmit(CLI::App& app, Session& session);      // submit, validate
void AddGet(CLI::App& app, Session& session);         // get jobs|workers|queues|checkpoints
void AddWatch(CLI::App& app, Session& session);       // watch
void AddLogs(CLI::App& app, Session& session);        // logs
void AddCancel(CLI::App& app, Session& session);      // cancel, pause, resume, delete
void AddExplain(CLI::App& app, Session& session);     // explain
void AddWorkers(CLI::App& app, Session& session);     // drain, undrain
void AddQueues(CLI::App& app, Session& session);      // create-queue, update-queue, delete-queue
void AddSample(CLI::App& app, Session& session);      // sample
void AddData(CLI::App& app, Session& session);        // data tokenize|listops|print
void AddLocal(CLI::App& app, Session& session);       // up, run
void AddPlot(CLI::App& app, Session& session);        // plot
void AddTop(CLI::App& app, Session& session);         // top
void AddContext(CLI::App& app, Session& session);     // context list|use|set|delete
void AddCompletion(CLI::App& app, Session& session);  // completion
void AddPresets(CLI::App& app, Session& session);     // presets, presets show

// The flags FILE, --preset and --set, for a command that takes a job.
void AddJobSource(CLI::App& command, JobSource& source);

// What may stand at the end of a line: `weft __complete WORDS...`, one line a candidate.
ExitCode CompleteWords(const CLI::App& app, Session& session,
                       const std::vector<std::string>& words);

// Shows progress on standard output; on standard error where the result alone belongs there: with
// -o json, yaml or name.
ProgressPrinter ProgressOf(const Session& session);

// Follows a job until it ends, printing its progress and, at the end, its summary. The exit code is
// the job's; kDeadlineExceeded (12) after `limit`.
void WatchToEnd(Session& session, const std::string& job, absl::Duration limit,
                ProgressPrinter& progress);

// Sends the spec and returns the job. The request id makes a repetition by the retry policy
// harmless.
absl::StatusOr<v1::Job> SubmitSpec(Session& session, const v1::JobSpec& spec, bool validate_only);

}  // namespace weft::client
