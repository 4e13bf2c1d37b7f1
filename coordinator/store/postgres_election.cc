#include "coordinator/store/postgres_election.h"

#include <libpq-fe.h>

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "coordinator/store/postgres_job_store.h"

namespace weft::coordinator {
namespace {

// How often a standby looks whether leadership is free, and how long a failed connection waits.
constexpr absl::Duration kLook = absl::Milliseconds(250);
constexpr absl::Duration kReconnect = absl::Seconds(1);

}  // namespace

absl::Status CheckPostgresTarget(const std::string& target) {
  char* error = nullptr;
  PQconninfoOption* const options = PQconninfoParse(target.c_str(), &error);
  const absl::Cleanup free_all = [&] {
    PQconninfoFree(options);
    PQfreemem(error);
  };
  if (options == nullptr) {
    // libpq's own text may quote the password.
    return absl::InvalidArgumentError(
        "not a connection string; allowed: 'host=... dbname=... user=...' or postgresql://...");
  }
  for (const PQconninfoOption* option = options; option->keyword != nullptr; ++option) {
    if (std::string(option->keyword) == "password" && option->val != nullptr) {
      return absl::InvalidArgumentError(
          "has a password in it, which everybody would see who sees the settings; give it in a "
          "file with postgres_password_file, or in PGPASSWORD");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<JobStore>> AwaitLeadership(const PostgresOptions& options,
                                                          const Standby& standby) {
  std::unique_ptr<PostgresJobStore> store;
  while (true) {
    absl::Status trouble;
    if (store == nullptr) {
      absl::StatusOr<std::unique_ptr<PostgresJobStore>> opened = PostgresJobStore::Open(options);
      trouble = opened.status();
      if (opened.ok()) store = *std::move(opened);
    }
    if (store != nullptr) {
      absl::StatusOr<bool> leads = store->TryLead();
      if (leads.ok() && *leads) return std::unique_ptr<JobStore>(std::move(store));
      trouble = leads.status();
      if (leads.ok()) {
        const absl::StatusOr<std::string> leader = store->leader();
        trouble = leader.status();
        if (leader.ok() && !leader->empty()) {
          standby.tell(absl::StrCat("stands by: ", *leader, " leads"));
        }
      }
    }
    if (absl::IsFailedPrecondition(trouble) || absl::IsPermissionDenied(trouble)) return trouble;
    if (!trouble.ok()) {
      store.reset();
      standby.tell(absl::StrCat("stands by: ", trouble.message()));
    }
    if (!standby.pause(trouble.ok() ? kLook : kReconnect)) {
      return absl::CancelledError("told to end while it stood by");
    }
  }
}

}  // namespace weft::coordinator
