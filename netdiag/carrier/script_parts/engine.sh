
# ---- the Docker engine --------------------------------------------------------------------------------------------
title "the Docker engine: version, swarm, networks, containers, images (named fields only)"

# The engine of this host, whatever context or DOCKER_HOST the user has.
docker_socket=/var/run/docker.sock
docker_ask() { within 10 docker -H "unix://$docker_socket" "$@"; }

# docker_list NAME TEMPLATE WORDS…: an object in JSON for each line that docker would list, of the fields that are named.
docker_list() {
  name=$1
  template=$2
  shift 2
  record "docker $name" 15 docker -H "unix://$docker_socket" "$@" --format "$template"
}

# docker_each NAME TEMPLATE IDS WORDS…: the same for objects that are asked for by their ids.
docker_each() {
  if [ -n "$3" ]; then
    name=$1
    template=$2
    ids=$3
    shift 3
    # shellcheck disable=SC2086 # the ids are the arguments
    record "docker $name" 15 docker -H "unix://$docker_socket" "$@" --format "$template" $ids
  else
    begin "docker $1"
    finish 0
  fi
}

if ! have docker; then
  absent "docker version" missing "no docker command on this host"
elif [ ! -S "$docker_socket" ]; then
  absent "docker version" missing "no engine listens on $docker_socket"
else
  patiently 10 docker -H "unix://$docker_socket" version >/dev/null 2>&1
  hangs=$?
  if [ "$hangs" = 124 ] || [ "$hangs" = 143 ]; then
    absent "docker version" timeout "the engine did not answer within 10 s"
  else
    docker_list version '{"Version":{{json .Server.Version}},"ApiVersion":{{json .Server.APIVersion}}}' version
  fi
  if [ "$hangs" = 0 ]; then
    # The engine and this node's place in its swarm. Join tokens are not among these fields.
    docker_list info '{"Name":{{json .Name}},"ServerVersion":{{json .ServerVersion}},
      "DockerRootDir":{{json .DockerRootDir}},"Driver":{{json .Driver}},"Architecture":{{json .Architecture}},
      "SystemTime":{{json .SystemTime}},"LiveRestoreEnabled":{{json .LiveRestoreEnabled}},
      "SecurityOptions":{{json .SecurityOptions}},
      "HttpProxy":{{json .HTTPProxy}},"HttpsProxy":{{json .HTTPSProxy}},"NoProxy":{{json .NoProxy}},
      "Swarm":{"NodeID":{{json .Swarm.NodeID}},"NodeAddr":{{json .Swarm.NodeAddr}},
        "LocalNodeState":{{json .Swarm.LocalNodeState}},"ControlAvailable":{{json .Swarm.ControlAvailable}},
        "Error":{{json .Swarm.Error}},"RemoteManagers":{{json .Swarm.RemoteManagers}},
        "Nodes":{{json .Swarm.Nodes}},"Managers":{{json .Swarm.Managers}}}}' info
    # The swarm's id, pools and data path port: known on managers only.
    docker_list info-cluster '{{with .Swarm.Cluster}}{"ID":{{json .ID}},"DefaultAddrPool":{{json .DefaultAddrPool}},
      "SubnetSize":{{json .SubnetSize}},"DataPathPort":{{json .DataPathPort}}}{{end}}' info
    # What only newer engines say: the pools of local networks, and the firewall backend.
    docker_list info-pools '{"DefaultAddressPools":[{{range $i, $p := .DefaultAddressPools}}{{if $i}},{{end}}
      {"Base":{{json $p.Base}},"Size":{{json $p.Size}}}{{end}}]}' info
    docker_list info-firewall '{"FirewallBackend":{"Driver":{{json .FirewallBackend.Driver}}}}' info
    # Networks: ranges, the options that matter (no labels), the other nodes in overlay networks. Not verbose: in many
    # versions that can crash the engine.
    ids=$(docker_ask network ls -q --no-trunc 2>/dev/null | head -n 64)
    docker_each networks '{"Id":{{json .ID}},"Name":{{json .Name}},"Driver":{{json .Driver}},"Scope":{{json .Scope}},
      "Internal":{{json .Internal}},"Attachable":{{json .Attachable}},"Ingress":{{json .Ingress}},
      "IPAM":{"Config":[{{range $i, $c := .IPAM.Config}}{{if $i}},{{end}}
        {"Subnet":{{json $c.Subnet}},"Gateway":{{json $c.Gateway}}}{{end}}]},
      "Options":{
        "com.docker.network.driver.mtu":{{json (index .Options "com.docker.network.driver.mtu")}},
        "com.docker.network.driver.overlay.vxlanid_list":
          {{json (index .Options "com.docker.network.driver.overlay.vxlanid_list")}},
        "com.docker.network.bridge.name":{{json (index .Options "com.docker.network.bridge.name")}}
        {{range $k, $v := .Options}}{{if eq $k "encrypted"}},"encrypted":""{{end}}{{end}}},
      "Peers":[{{range $i, $p := .Peers}}{{if $i}},{{end}}
        {"Name":{{json $p.Name}},"IP":{{json $p.IP}}}{{end}}]}' "$ids" network inspect
    # Containers: image, state, addresses and published ports; neither environment nor command.
    ids=$(docker_ask ps -aq --no-trunc 2>/dev/null | head -n 256)
    docker_each containers '{"Id":{{json .ID}},"Name":{{json .Name}},"Image":{{json .Config.Image}},
      "ImageID":{{json .Image}},"State":{{json .State.Status}},"Pid":{{json .State.Pid}},
      "SandboxKey":{{json .NetworkSettings.SandboxKey}},
      "Service":{{json (index .Config.Labels "com.docker.swarm.service.name")}},
      "Task":{{json (index .Config.Labels "com.docker.swarm.task.id")}},
      "Ports":{{json .NetworkSettings.Ports}},
      "Networks":[{{range $n, $e := .NetworkSettings.Networks}}{"Network":{{json $n}},
        "NetworkID":{{json $e.NetworkID}},"EndpointID":{{json $e.EndpointID}},"IPAddress":{{json $e.IPAddress}},
        "MacAddress":{{json $e.MacAddress}},"Gateway":{{json $e.Gateway}}},{{end}}null]}' "$ids" container inspect
    # Images: their names and ids, so that two builds of one name are seen.
    docker_list images '{"Id":{{json .ID}},"Repository":{{json .Repository}},"Tag":{{json .Tag}},
      "Digest":{{json .Digest}}}' image ls --no-trunc --digests
    # Only a manager knows the nodes, services and tasks of the swarm.
    if [ "$(docker_ask info --format '{{.Swarm.ControlAvailable}}' 2>/dev/null)" = true ]; then
      ids=$(docker_ask node ls -q 2>/dev/null | head -n 256)
      docker_each nodes '{"ID":{{json .ID}},"CreatedAt":{{json .CreatedAt}},
        "Spec":{"Role":{{json .Spec.Role}},"Availability":{{json .Spec.Availability}}},
        "Status":{"State":{{json .Status.State}},"Addr":{{json .Status.Addr}},"Message":{{json .Status.Message}}},
        "Description":{"Hostname":{{json .Description.Hostname}},
          "Engine":{"EngineVersion":{{json .Description.Engine.EngineVersion}}}}
        {{with .ManagerStatus}},"ManagerStatus":{"Leader":{{json .Leader}},
          "Reachability":{{json .Reachability}},"Addr":{{json .Addr}}}{{end}}}' "$ids" node inspect
      services=$(docker_ask service ls -q 2>/dev/null | head -n 256)
      docker_each services '{"ID":{{json .ID}},"Spec":{"Name":{{json .Spec.Name}},
          "TaskTemplate":{"ContainerSpec":{"Image":{{with .Spec.TaskTemplate.ContainerSpec}}{{json .Image}}
            {{else}}""{{end}}},
            "Networks":[{{range $i, $n := .Spec.TaskTemplate.Networks}}{{if $i}},{{end}}
              {"Target":{{json $n.Target}}}{{end}}]},
          "Mode":{ {{with .Spec.Mode.Replicated}}"Replicated":{"Replicas":{{json .Replicas}}}{{end}} }},
        "Endpoint":{"Spec":{"Mode":{{json .Endpoint.Spec.Mode}}},
          "Ports":[{{range $i, $p := .Endpoint.Ports}}{{if $i}},{{end}}{"Protocol":{{json $p.Protocol}},
            "TargetPort":{{json $p.TargetPort}},"PublishedPort":{{json $p.PublishedPort}},
            "PublishMode":{{json $p.PublishMode}}}{{end}}],
          "VirtualIPs":[{{range $i, $v := .Endpoint.VirtualIPs}}{{if $i}},{{end}}
            {"NetworkID":{{json $v.NetworkID}},"Addr":{{json $v.Addr}}}{{end}}]}}' "$services" service inspect
      # shellcheck disable=SC2086 # the ids are the arguments
      ids=$([ -z "$services" ] || docker_ask service ps -q --no-trunc $services 2>/dev/null | head -n 500)
      docker_each tasks '{"ID":{{json .ID}},"ServiceID":{{json .ServiceID}},"NodeID":{{json .NodeID}},
        "DesiredState":{{json .DesiredState}},
        "Status":{"State":{{json .Status.State}},"Err":{{json .Status.Err}}},
        "Spec":{"ContainerSpec":{"Image":{{with .Spec.ContainerSpec}}{{json .Image}}{{else}}""{{end}}}}}' \
        "$ids" inspect --type task
    fi
  fi
  # Names of files (nothing in them) that a swarm left in the engine's directory.
  root=
  [ "$hangs" != 0 ] || root=$(docker_ask info --format '{{.DockerRootDir}}' 2>/dev/null)
  if [ -n "$root" ] && [ -d "$root/swarm" ] && [ -r "$root/swarm" ]; then
    begin "list-dir $root/swarm"
    for path in "$root"/swarm/* "$root"/swarm/*/*; do
      if [ -d "$path" ]; then
        printf '|directory %s\n' "${path#"$root"/swarm/}" >&3
      elif [ -e "$path" ]; then
        printf '|file %s\n' "${path#"$root"/swarm/}" >&3
      fi
    done
    finish 0
  elif [ -n "$root" ] && [ -r "$root" ]; then
    absent "list-dir $root/swarm" missing "no such directory"
  elif [ -n "$root" ]; then
    absent "list-dir $root/swarm" permission "not allowed to look into it"
  fi
fi
