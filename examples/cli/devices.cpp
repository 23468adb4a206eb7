#include "xcomposer/devices.h"

#include <iostream>
#include <memory>

#include "commands.h"
#include "exit_code.h"
#include "flags.h"
#include "output.h"
#include "xcomposer/version.h"

namespace xcomposer::cli {
namespace {

using nlohmann::json;

// The form of a cluster file, with one node; its version figures stand beside "nodes".
json ToJson(const MachineInfo& machine) {
  json devices = json::array();
  for (const DeviceInfo& device : machine.devices) {
    json entry = {{"name", device.name},     {"kind", device.kind}, {"model", device.model},
                  {"memory", device.memory}, {"free", device.free}, {"bandwidth", device.bandwidth},
                  {"flops", device.flops}};
    if (device.speed_assumed) entry["speed_assumed"] = true;
    if (device.threads > 0) entry["threads"] = device.threads;
    if (!device.instructions.empty()) entry["instructions"] = device.instructions;
    devices.push_back(entry);
  }
  json object = {
      {"nodes",
       {{{"name", machine.host},
         {"devices", devices},
         {"link", {{"bandwidth", machine.link_bandwidth}, {"latency", machine.link_latency}}}}}},
      {"versions",
       {{"xcomposer", Version()},
        {"torch", machine.torch_version},
        {"cuda_driver", machine.cuda_driver},
        {"cuda_runtime", machine.cuda_runtime},
        {"build", machine.build}}}};
  if (!machine.cuda_problem.empty()) object["versions"]["cuda_problem"] = machine.cuda_problem;
  return object;
}

void Print(const MachineInfo& machine) {
  std::cout << "host " << machine.host << '\n';
  for (const DeviceInfo& device : machine.devices) {
    std::cout << "  " << device.name << "  " << device.model << "  " << HumanBytes(device.memory)
              << ", " << HumanBytes(device.free) << " free";
    if (device.threads > 0) std::cout << ", " << device.threads << " threads";
    if (!device.instructions.empty()) std::cout << ", " << device.instructions;
    std::cout << '\n';
  }
  std::cout << "xcomposer " << Version() << " (" << machine.build << "), LibTorch "
            << machine.torch_version;
  if (!machine.cuda_runtime.empty()) std::cout << ", CUDA " << machine.cuda_runtime;
  if (!machine.cuda_driver.empty()) std::cout << ", driver " << machine.cuda_driver;
  if (!machine.cuda_problem.empty()) std::cout << "\nCUDA: " << machine.cuda_problem;
  std::cout << std::endl;
}

}  // namespace

void AddDevices(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("devices", "Show what this machine has");
  auto json_wanted = std::make_shared<bool>(false);
  AddJsonFlag(*command, *json_wanted);
  NameEnvironmentVariables(*command);
  command->callback([json_wanted, &chosen] {
    chosen.json = *json_wanted;
    chosen.run = [json_wanted] {
      if (*json_wanted) {
        PrintLine(ToJson(Machine()));
      } else {
        Print(Machine());
      }
      return kDone;
    };
  });
}

}  // namespace xcomposer::cli
