export { Drilldown } from "./drilldown/Drilldown";
