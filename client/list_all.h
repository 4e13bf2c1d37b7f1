// Follows the pages of a List call to the end.
#pragma once

#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "client/session.h"
#include "common/base/status_macros.h"

namespace weft::client {

// `field` picks the resources out of a response: [](auto& r) { return r.mutable_jobs(); }.
template <typename Resource, typename Stub, typename Request, typename Response, typename Field>
absl::StatusOr<std::vector<Resource>> ListAll(Session& session, Stub& stub,
                                              grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                                           const Request&,
                                                                           Response*),
                                              Request request, const Field& field) {
  std::vector<Resource> all;
  do {
    WEFT_ASSIGN_OR_RETURN(Response response, session.Call(method, stub, request));
    for (auto& resource : *field(response)) all.push_back(std::move(resource));
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return all;
}

}  // namespace weft::client
