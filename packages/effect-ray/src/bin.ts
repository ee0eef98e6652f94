/** The program `effect-ray`: the one place that picks a platform. */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as OtlpSerialization from "effect/observability/OtlpSerialization"
import * as OtlpTracer from "effect/observability/OtlpTracer"
import { readFileSync } from "node:fs"
import { hostname } from "node:os"
import * as Cli from "./Cli.ts"
import { Program } from "./internal/program.ts"

const { version }: { readonly version: string } = JSON.parse(
  readFileSync(new URL("../package.json", import.meta.url), "utf8")
)

const program = { label: `${hostname()} pid ${process.pid}`, interrupted: 130 }

/** With OTEL_TRACES_EXPORTER=otlp, spans go to the collector at OTEL_EXPORTER_OTLP_ENDPOINT; otherwise nowhere. */
const tracing = OtlpTracer.layerFromConfig({ resource: { serviceName: "effect-ray", serviceVersion: version } }).pipe(
  Layer.provide([OtlpSerialization.layerJson, NodeHttpClient.layerNodeHttp])
)

NodeRuntime.runMain(
  Cli.run({ version }).pipe(
    Effect.provide(tracing),
    Effect.provideService(Program, program),
    Effect.provide(NodeServices.layer)
  ),
  { teardown: (exit, onExit) => onExit(Cli.exitCode(exit, program.interrupted)) }
)
