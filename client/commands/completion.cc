// weft completion, and the hidden command that its scripts call.

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/commands.h"
#include "client/complete.h"
#include "client/contexts.h"
#include "client/text.h"
#include "weft/v1/queue.grpc.pb.h"
#include "weft/v1/worker.grpc.pb.h"

namespace weft::client {
namespace {

// A person waits with a finger on the key.
constexpr absl::Duration kNamesTimeout = absl::Milliseconds(500);
constexpr int kMaxNames = 200;

template <typename Resources>
std::vector<std::string> ShortNames(const Resources& resources) {
  std::vector<std::string> names;
  for (const auto& resource : resources) names.push_back(ShortName(resource.name()));
  return names;
}

std::vector<std::string> NamesFromServer(Session& session, const std::string& kind) {
  const auto channel = session.Connect();
  if (!channel.ok()) return {};
  if (kind == "JOB") {
    auto stub = v1::JobService::NewStub(*channel);
    v1::ListJobsRequest request;
    request.set_page_size(kMaxNames);
    const auto jobs = session.Call(&v1::JobService::Stub::ListJobs, *stub, request);
    if (jobs.ok()) return ShortNames(jobs->jobs());
  } else if (kind == "WORKER") {
    auto stub = v1::WorkerService::NewStub(*channel);
    v1::ListWorkersRequest request;
    request.set_page_size(kMaxNames);
    const auto workers = session.Call(&v1::WorkerService::Stub::ListWorkers, *stub, request);
    if (workers.ok()) return ShortNames(workers->workers());
  } else {
    auto stub = v1::QueueService::NewStub(*channel);
    const auto queues =
        session.Call(&v1::QueueService::Stub::ListQueues, *stub, v1::ListQueuesRequest());
    if (queues.ok()) return ShortNames(queues->queues());
  }
  return {};
}

std::vector<std::string> NamesOf(Session& session, const std::string& kind) {
  if (kind == "CONTEXT") {
    std::vector<std::string> names;
    const auto contexts = ReadContexts(ContextsPath());
    if (!contexts.ok()) return {};
    for (const auto& [name, context] : contexts->by_name) names.push_back(name);
    return names;
  }
  if (kind == "JOB" || kind == "WORKER" || kind == "QUEUE") return NamesFromServer(session, kind);
  return {};
}

// The cluster that the line itself names: `weft --context lab watch <tab>`.
void TakeClusterFlags(const std::vector<std::string>& words, Session& session) {
  const std::map<std::string, std::string*> flags = {
      {"--context", &session.context_flag},  {"--address", &session.flags.address},
      {"--tls-ca", &session.flags.tls.ca},   {"--tls-cert", &session.flags.tls.cert},
      {"--tls-key", &session.flags.tls.key}, {"--tls-name", &session.flags.tls_name}};
  for (size_t i = 0; i + 2 < words.size(); ++i) {
    if (const auto flag = flags.find(words[i]); flag != flags.end()) *flag->second = words[i + 1];
  }
}

}  // namespace

ExitCode CompleteWords(const CLI::App& app, Session& session,
                       const std::vector<std::string>& words) {
  session.timeout = kNamesTimeout;
  TakeClusterFlags(words, session);
  const auto found =
      Complete(app, words, [&session](const std::string& kind) { return NamesOf(session, kind); });
  for (const Candidate& candidate : found) {
    // The first line of a description; a tab would end the text.
    std::string description = candidate.description.substr(0, candidate.description.find('\n'));
    std::replace(description.begin(), description.end(), '\t', ' ');
    std::cout << candidate.text << '\t' << description << '\n';
  }
  return kExitOk;
}

void AddCompletion(CLI::App& app, Session& session) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(
      "completion", "Print the completion script of a shell: source <(weft completion bash)");
  command->add_option("SHELL", *shell, "bash, zsh or fish")->required();
  command->callback([shell, &session] {
    const std::string script = CompletionScript(*shell);
    if (script.empty()) {
      return session.Fail(
          absl::InvalidArgumentError("SHELL must be one of bash, zsh, fish, is '" + *shell + "'"));
    }
    std::cout << script;
  });
}

}  // namespace weft::client
