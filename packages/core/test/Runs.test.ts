import * as MemoryRunStore from "../src/MemoryRunStore.ts"
import { runSuite } from "./RunSuite.ts"

runSuite("runs in memory", MemoryRunStore.layer)
