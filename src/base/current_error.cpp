#include "base/current_error.h"

#include <new>

namespace xcomposer {

Error CurrentError() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error(ErrorKind::kCapacity, "out of memory");
  } catch (const std::exception& error) {
    return Error(ErrorKind::kInternal, error.what());
  } catch (...) {
    return Error(ErrorKind::kInternal, "an exception of unknown type");
  }
}

}  // namespace xcomposer
