// How a coordinator uses a PostgreSQL database. Known in builds without PostgreSQL, too.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace weft::coordinator {

struct PostgresOptions {
  std::string target;  // libpq's connection string, without a password
  // Holds the password and is read for every session, since passwords change. Empty: as libpq finds
  // one (PGPASSFILE, PGPASSWORD).
  std::string password_file;
  std::string holder;  // this coordinator's name for people, such as its host's
  // A leader of which the server hears nothing for this long does not lead any more.
  absl::Duration lease = absl::Seconds(10);
  // Facts kept as history, newest first; older ones are dropped now and then.
  int64_t facts_kept = 200000;
  int64_t trim_every = 1000;  // commits
};

}  // namespace weft::coordinator
