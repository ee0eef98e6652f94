import * as MemoryRunStore from "../src/MemoryRunStore.ts"
import { workflowSuite } from "./WorkflowSuite.ts"

workflowSuite("workflows in memory", MemoryRunStore.layer, { replays: 1_000 })
